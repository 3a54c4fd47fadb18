/**
 * Every sentence of the chat, in one table: what is said, plain and in HTML. `deno task sentences` prints it.
 */

import assert from "node:assert/strict";
import * as words from "../../lib/commands/mod.ts";
import type { CommandWord, Explanation, Text, Upcoming, Why } from "../../lib/commands/mod.ts";
import type { Counts, Problem } from "../../lib/scaler/mod.ts";

const running: Counts = { desired: 1, current: 1, ready: 1, available: 1, settled: true };
const starting: Counts = { ...running, ready: 0, available: 0 };
const off: Counts = { desired: 0, current: 0, ready: 0, available: 0, settled: true };
const minute = 60_000, hour = 60 * minute, day = 24 * hour;
const alone = { readyForMs: undefined, next: undefined, problems: [] };
/** A Friday in winter, ten to ten in Berlin. */
const nowMs = Date.parse("2026-01-09T08:50Z");
const timeZone = "Europe/Berlin";
const name = "clawdbot";
const two = ["clawdbot", "ollama"];

const image: Problem = {
  kind: "image",
  certain: true,
  reason: "ImagePullBackOff",
  image: "claw:9",
  message: "not found",
};
const config: Problem = {
  kind: "container-config",
  certain: true,
  reason: "CreateContainerConfigError",
  message: 'secret "claw" not found',
};
const crash: Problem = { kind: "crash", certain: true, reason: "CrashLoopBackOff", exitCode: 1, restarts: 3 };
const memory: Problem = { kind: "out-of-memory", certain: true, reason: "OOMKilled", exitCode: 137, restarts: 1 };
const nodes: Problem = {
  kind: "unschedulable",
  certain: false,
  reason: "Unschedulable",
  message: "0/1 nodes are available: 1 Insufficient memory",
};
const quota: Problem = { kind: "quota", certain: true, reason: "FailedCreate", message: "exceeded quota: pods" };
const other: Problem = { kind: "other", certain: false, reason: "ContainerCreating" };

function notReady(problems: readonly Problem[], missingPermission?: string): Text {
  return words.notReady(name, { ready: 0, desired: 1 }, 10 * minute, { problems, missingPermission });
}

function failed(word: CommandWord, why: Why): Text {
  return words.failed(word, name, why);
}

function untrusted(explanation: Explanation, trustedDevices: readonly string[] = [], encrypted = true): Text {
  return words.untrusted(explanation, { encrypted, deviceId: "PHONE", trustedDevices });
}

/** Nothing happens without a command. */
const byHand = { schedule: [], agents: [], idleStopMs: undefined };

function stopsIn(ms: number): Upcoming {
  return { kind: "stops-in", ms };
}

function at(kind: "stops-at" | "starts-at", time: string): Upcoming {
  return { kind, when: { atMs: Date.parse(time), nowMs, timeZone } };
}

const permission = { verb: "patch", resource: 'deployments.apps/scale "clawdbot" in namespace "agents"' };
const unreachable = { kind: "unreachable", who: "Kubernetes API", triedMs: 30_000 } as const;

/** When it is said, and what. */
export const sentences: readonly (readonly [when: string, text: Text, plain: string])[] = [
  ["first line of an answer", words.echo("Start 2h"), "🦞 Start 2h"],
  ["start", words.switchedOn(name, 1, undefined), "clawdbot is on (1 replica), starting…"],
  [
    "start 2h",
    words.switchedOn(name, 2, stopsIn(2 * hour)),
    "clawdbot is on (2 replicas), starting… Stops automatically in 2 h.",
  ],
  ["… after 10 s", words.starting(name, { ready: 0, desired: 1 }, []), "clawdbot is on (1 replica), starting…"],
  [
    "… no node",
    words.starting(name, { ready: 0, desired: 1 }, [nodes]),
    "clawdbot is on (1 replica), starting… Not scheduled yet: 0/1 nodes are available: 1 Insufficient memory",
  ],
  [
    "… some ready",
    words.partlyReady(name, { ready: 2, desired: 4 }),
    "clawdbot is on (4 replicas, 2 ready), starting…",
  ],
  ["… ready", words.ready(name, 14_000, undefined), "clawdbot is ready (took 14 s)"],
  [
    "… ready, with a time",
    words.ready(name, 14_000, stopsIn(48 * minute)),
    "clawdbot is ready (took 14 s); stops automatically in 48 min",
  ],
  ["… rings when it took long", words.readyAlert(name), "clawdbot is ready"],
  [
    "… image",
    notReady([image]),
    "clawdbot isn't ready (0/1): the image `claw:9` can't be pulled (`ImagePullBackOff`: not found). Still watching.",
  ],
  [
    "… configuration",
    notReady([config]),
    "clawdbot isn't ready (0/1): its container can't be created (`CreateContainerConfigError`: secret \"claw\" not found). Still watching.",
  ],
  [
    "… crash",
    notReady([crash]),
    "clawdbot isn't ready (0/1): it keeps crashing (`CrashLoopBackOff`, exit code 1, 3 restarts). Still watching.",
  ],
  [
    "… memory",
    notReady([memory]),
    "clawdbot isn't ready (0/1): it runs out of memory (`OOMKilled`, exit code 137, 1 restart). Still watching.",
  ],
  [
    "… no node, at the time limit",
    notReady([nodes]),
    "clawdbot isn't ready (0/1): no node can run it (`Unschedulable`: 0/1 nodes are available: 1 Insufficient memory). Still watching.",
  ],
  [
    "… quota",
    notReady([quota]),
    "clawdbot isn't ready (0/1): its pods would exceed the namespace's quota (`FailedCreate`: exceeded quota: pods). Still watching.",
  ],
  [
    "… something else",
    notReady([other]),
    "clawdbot isn't ready (0/1): the cluster reports `ContainerCreating`. Still watching.",
  ],
  [
    "… time limit, no reason",
    notReady([]),
    "clawdbot isn't ready after 10 min (0/1), and I can't find out why. Still watching.",
  ],
  [
    "… time limit, base Role",
    notReady([], 'list pods in namespace "agents"'),
    'clawdbot isn\'t ready after 10 min (0/1). I can\'t see why: that needs permission to list pods in namespace "agents" (see "extended" in the docs). Still watching.',
  ],
  ["… rings", words.notReadyAlert(name, [image]), "clawdbot isn't ready: its image can't be pulled"],
  ["… rings at the time limit", words.notReadyAlert(name, []), "clawdbot still isn't ready"],
  [
    "… stopped meanwhile",
    words.superseded(name, { userId: "@bob:example.org", name: "Bob" }, 5_000),
    "Bob turned clawdbot off after 5 s, before it was ready",
  ],
  [
    "… undone",
    words.undone(name, { before: 1, now: 0, manager: "kubectl" }, 12_000),
    "clawdbot was turned on (1 replica), but somebody else (`kubectl`) scaled it to 0 after 12 s. Send `start` to try again.",
  ],
  [
    "… undone by a tool that will do so again",
    words.undone(name, { before: 1, now: 0, manager: "kustomize-controller" }, 12_000),
    "clawdbot was turned on (1 replica), but somebody else (`kustomize-controller`) scaled it to 0 after 12 s. It will do so again until it is told to leave `spec.replicas` alone.",
  ],
  [
    "stop, undone",
    words.undone(name, { before: 0, now: 2, manager: undefined }, 12_000),
    "clawdbot was turned off, but somebody else scaled it to 2 after 12 s. Send `stop` to try again.",
  ],
  [
    "start of what runs",
    words.alreadyOn(name, running, undefined),
    "clawdbot is already running (1/1 ready)",
  ],
  [
    "start 2h of what runs",
    words.alreadyOn(name, running, stopsIn(2 * hour)),
    "clawdbot is already running (1/1 ready). Stops automatically in 2 h.",
  ],
  [
    "start of what starts",
    words.alreadyStarting(name, starting, undefined),
    "clawdbot is already starting (0/1 ready)",
  ],
  ["stop", words.switchedOff(name, undefined), "clawdbot is off"],
  ["stop of what is off", words.alreadyOff(name, undefined), "clawdbot is already off"],
  [
    "status",
    words.status(name, running, { ...alone, readyForMs: 4 * minute }, true),
    "clawdbot is running: 1/1 ready, up 4 min",
  ],
  [
    "status, with a time",
    words.status(name, running, { ...alone, readyForMs: 3 * hour + 12 * minute, next: stopsIn(48 * minute) }, true),
    "clawdbot is running: 1/1 ready, up 3 h 12 min; stops automatically in 48 min",
  ],
  [
    "status, not available yet",
    words.status(name, { ...running, available: 0 }, alone, true),
    "clawdbot is running: 1/1 ready, 0 available",
  ],
  ["status, off", words.status(name, off, alone, true), "clawdbot is off"],
  ["status, stopping", words.status(name, { ...off, current: 1 }, alone, true), "clawdbot is stopping: 1 replica left"],
  [
    "status, failing",
    words.status(name, starting, { ...alone, problems: [crash] }, true),
    "clawdbot is starting: 0/1 ready; it keeps crashing (`CrashLoopBackOff`, exit code 1, 3 restarts)",
  ],
  [
    "status, one of several",
    words.status(name, running, { ...alone, readyForMs: 4 * minute }, false),
    "clawdbot · running · 1/1 ready, up 4 min",
  ],
  ["status, one of several, off", words.status("ollama", off, alone, false), "ollama · off"],
  [
    "status, commands before it not over",
    words.stillUnderWay(["start", "stop ollama"]),
    "Still in progress: `start`, `stop ollama`",
  ],
  ["extend 1h", words.extended(name, 2 * hour), "Extended: clawdbot now stops automatically in 2 h"],
  [
    "extend without a time",
    words.stopsNever(name),
    "clawdbot isn't set to stop automatically. Send `start 1h` to stop it in an hour.",
  ],
  [
    "ten minutes before the end",
    words.nearlyOver(name, 10 * minute, false),
    "clawdbot stops automatically in 10 min. Send `extend 1h` for another hour.",
  ],
  [
    "… of one of several",
    words.nearlyOver("ollama", 10 * minute, true),
    "ollama stops automatically in 10 min. Send `extend ollama 1h` for another hour.",
  ],
  ["the time is up", words.stoppedByItself(name, undefined), "clawdbot is off: its time is up"],
  [
    "… while away",
    words.stoppedByItself(name, 9 * minute),
    "clawdbot is off: its time was up 9 min ago, but I couldn't stop it on time",
  ],
  ["a message to an agent wakes it", words.waking(name), "clawdbot was asleep: starting…"],
  [
    "start of what sleeps by itself",
    words.switchedOn(name, 1, { kind: "sleeps-after", ms: 30 * minute }),
    "clawdbot is on (1 replica), starting… Sleeps after 30 min without a message.",
  ],
  [
    "… ready",
    words.ready(name, 14_000, { kind: "sleeps-after", ms: 30 * minute }),
    "clawdbot is ready (took 14 s); sleeps after 30 min without a message",
  ],
  [
    "status of what sleeps by itself",
    words.status(name, running, { ...alone, next: { kind: "sleeps-after", ms: 30 * minute, rooms: 2 } }, true),
    "clawdbot is running: 1/1 ready; sleeps after 30 min without a message (2 rooms watched)",
  ],
  [
    "… asleep",
    words.status(name, off, { ...alone, next: { kind: "wakes", agents: ["@clawd:h", "@molty:h"], rooms: 1 } }, true),
    "clawdbot is off; wakes when you write to @clawd or @molty (1 room watched)",
  ],
  [
    "… not after a stop",
    words.keptOff(name),
    "clawdbot is off until somebody sends me `start`: messages don't wake it after a `stop`",
  ],
  [
    "five minutes before it falls asleep",
    words.fallingAsleep(name, { quietForMs: 25 * minute, leftMs: 5 * minute }),
    "clawdbot goes to sleep in 5 min: no message for 25 min",
  ],
  ["… somebody writes", words.staysAwake(name), "clawdbot stays on"],
  [
    "… nobody writes",
    words.fellAsleep(name, 30 * minute, ["@clawd:example.org", "@molty:example.org"]),
    "clawdbot is off: no message for 30 min. Write to @clawd or @molty to wake it.",
  ],
  [
    "an up-time begins",
    words.startedBySchedule(name, 1, at("stops-at", "2026-01-09T17:00Z"), undefined),
    "clawdbot is on (1 replica), as scheduled; stops at 18:00",
  ],
  [
    "… while away",
    words.startedBySchedule(name, 1, at("stops-at", "2026-01-09T23:00Z"), 9 * minute),
    "clawdbot is on (1 replica), scheduled for 9 min ago, but I couldn't start it on time; stops at 24:00",
  ],
  [
    "an up-time ends",
    words.stoppedBySchedule(name, at("starts-at", "2026-01-12T07:00Z"), undefined),
    "clawdbot is off, as scheduled; starts on Mon at 08:00",
  ],
  [
    "… while away",
    words.stoppedBySchedule(name, at("starts-at", "2026-01-16T07:00Z"), 9 * minute),
    "clawdbot is off, scheduled for 9 min ago, but I couldn't stop it on time; starts on 16 Jan at 08:00",
  ],
  [
    "start, with a schedule",
    words.switchedOn(name, 1, at("stops-at", "2026-01-09T17:00Z")),
    "clawdbot is on (1 replica), starting… Stops at 18:00.",
  ],
  [
    "stop, with a schedule",
    words.switchedOff(name, at("starts-at", "2026-01-10T07:00Z")),
    "clawdbot is off; starts on Sat at 08:00",
  ],
  [
    "status, with a schedule",
    words.status(name, off, { ...alone, next: at("starts-at", "2026-01-09T23:30Z") }, false),
    "clawdbot · off; starts on Sat at 00:30",
  ],
  [
    "somebody else scales it",
    words.changedByOthers(name, { before: 1, now: 2, manager: "kubectl" }),
    "clawdbot was scaled from 1 to 2 replicas by somebody else (`kubectl`)",
  ],
  [
    "help",
    words.help([name], byHand),
    "I turn clawdbot on and off. Commands:\n`start` or `on`: turn it on (`start 2h`: for two hours)\n`stop` or `off`: turn it off\n`extend 1h`: keep it on for another hour\n`status`: show whether it's running\n`help`: list commands",
  ],
  [
    "help, several",
    words.help(two, byHand),
    "I turn clawdbot and ollama on and off. Commands:\n`start` or `on`: turn it on (`start 2h`: for two hours)\n`stop` or `off`: turn it off\n`extend 1h`: keep it on for another hour\n`status`: show whether it's running\n`help`: list commands\nWithout a name, commands apply to clawdbot, but `status` shows all. Add a name or `all` to choose others: `start ollama 2h`, `stop all`.",
  ],
  [
    "help, with schedules",
    words.help([name], {
      ...byHand,
      schedule: [
        { alias: name, text: "Mon-Fri 08:00-18:00 Europe/Berlin" },
        { alias: name, text: "Sat 10:00-14:00 Europe/Berlin" },
      ],
    }),
    "I turn clawdbot on and off. Commands:\n`start` or `on`: turn it on (`start 2h`: for two hours)\n`stop` or `off`: turn it off\n`extend 1h`: keep it on for another hour\n`status`: show whether it's running\n`help`: list commands\nclawdbot is scheduled to be on: Mon-Fri 08:00-18:00 Europe/Berlin, Sat 10:00-14:00 Europe/Berlin.\nCommands win: a start holds until the schedule's next stop, and a stop until its next start.",
  ],
  [
    "help, with an agent",
    words.help([name], { ...byHand, agents: [{ alias: name, userId: "@clawd:example.org" }], idleStopMs: 30 * minute }),
    "I turn clawdbot on and off. Commands:\n`start` or `on`: turn it on (`start 2h`: for two hours)\n`stop` or `off`: turn it off\n`extend 1h`: keep it on for another hour\n`status`: show whether it's running\n`help`: list commands\nclawdbot wakes when you write to @clawd, and sleeps after 30 min without a message. After a `stop` it stays off.\nWhere an agent is in the room, mention me before the command.",
  ],
  [
    "no command",
    words.unknownCommand("make  coffee\n& <b>tea</b>"),
    "Unknown command: make coffee & <b>tea</b>. Send `help` for a list of commands.",
  ],
  [
    "another target",
    words.misused({ kind: "target", given: "<i>" }, two),
    "There's no target `<i>`. Use `clawdbot`, `ollama` or `all`.",
  ],
  ["extend alone", words.misused({ kind: "no-duration", given: "" }, []), "For how long? For example, `extend 1h`."],
  [
    "start 2x",
    words.misused({ kind: "not-a-duration", given: "2x" }, []),
    "`2x` isn't a duration. Try `90m`, `1h30m` or `2d`.",
  ],
  ["start 10s", words.misused({ kind: "too-short", given: "10s" }, []), "`10s` is too short; the least is 1m."],
  ["start 90d", words.misused({ kind: "too-long", given: "90d" }, []), "`90d` is too long; the most is 30d."],
  [
    "a reply",
    words.replyIsNoCommand("start"),
    "I ignored that because it was a reply. Send `start` as a new message.",
  ],
  [
    "an old command",
    words.away("start", 42 * minute),
    "I was away when you sent `start`, 42 min ago. Send it again if you still want it.",
  ],
  [
    "the API doesn't answer",
    words.unanswered("start", name, "Kubernetes API"),
    "The Kubernetes API isn't answering. Still trying to start clawdbot…",
  ],
  [
    "… for 30 s",
    failed("start", { ...unreachable, perhapsDone: false }),
    "Can't start clawdbot: the Kubernetes API didn't answer within 30 s. Nothing was changed. Send `start` again if you still want it.",
  ],
  [
    "… perhaps done",
    failed("stop", { ...unreachable, perhapsDone: true }),
    "Can't tell whether clawdbot was stopped: the Kubernetes API didn't answer within 30 s. Send `status` to check.",
  ],
  [
    "… status",
    failed("status", { ...unreachable, perhapsDone: false }),
    "Can't check clawdbot: the Kubernetes API didn't answer within 30 s.",
  ],
  [
    "not permitted",
    failed("start", { kind: "not-permitted", ...permission }),
    'Can\'t start clawdbot: I\'m not allowed to patch `deployments/scale` "clawdbot" in namespace "agents". My Role lacks that permission.',
  ],
  [
    "not there",
    failed("start", { kind: "not-found", target: 'deployment "clawdbot" in namespace "agents"' }),
    'Can\'t start clawdbot: there\'s no deployment "clawdbot" in namespace "agents".',
  ],
  [
    "refused",
    failed("stop", { kind: "rejected", reason: "Invalid" }),
    "Can't stop clawdbot: the Kubernetes API rejected the request (`Invalid`).",
  ],
  [
    "a fault of ours",
    failed("start", { kind: "internal" }),
    "Can't start clawdbot: internal error. My log has the details.",
  ],
  ["… rings", words.failedAlert("start", name), "Can't start clawdbot"],
  [
    "a start that can't be followed",
    words.unreadable(name, { kind: "rejected", reason: "Unauthorized" }),
    "Can't tell whether clawdbot is ready: the Kubernetes API rejected the request (`Unauthorized`). Still trying.",
  ],
  ["… rings", words.unreadableAlert(name), "Can't tell whether clawdbot is ready"],
  [
    "cut short, and overtaken",
    words.overtaken("stop", name, { before: 1, now: 2 }),
    "Somebody else scaled clawdbot from 1 to 2 replicas after you sent `stop`. I've left it unchanged.",
  ],
  [
    "cut short, and no target any more",
    words.targetGone("start", "ollama"),
    "I was restarted while handling `start`, and ollama is no longer one of my targets. I've left it unchanged.",
  ],
  [
    "not trusted any more",
    words.noLongerSure(),
    "I ignored that: when its turn came, I could no longer verify that you sent it. If you did, send it again.",
  ],
  ["another room", words.roomNotAllowed(), "I don't take commands in this room: it isn't in `ALLOWED_ROOMS`."],
  [
    "history cut off",
    words.historyCutOff(),
    "I couldn't read every message that was sent here while I was away. If I missed a command that you still want, send it again.",
  ],
  [
    "no key",
    words.undecryptable(undefined),
    "I can't read your message: your app hasn't sent me the key for it. Send the message again; if that fails, start a new chat with me.",
  ],
  [
    "… withheld",
    words.undecryptable("m.unverified"),
    "I can't read your message: your app sends to verified devices only, and mine isn't verified. Verify my device or turn that setting off for this room, then send the message again.",
  ],
  [
    "… withheld",
    words.undecryptable("m.blacklisted"),
    "I can't read your message: your app has blocked my device. Unblock it, then send the message again.",
  ],
  [
    "… withheld",
    words.undecryptable("m.unauthorised"),
    "I can't read your message: your app says that my device isn't allowed to read it. Send the message again; if that fails, start a new chat with me.",
  ],
  [
    "… withheld",
    words.undecryptable("m.no_olm"),
    "I can't read your message: your app couldn't set up an encrypted session with my device. Send the message again; if that fails, start a new chat with me.",
  ],
  [
    "… withheld",
    words.undecryptable("<i>"),
    "I can't read your message: your app withheld the key for it. Send the message again; if that fails, start a new chat with me.",
  ],
  [
    "clear text in an encrypted room",
    untrusted("not-encrypted"),
    "I ignored that: it wasn't encrypted, but this room is. Send it from an app that supports encryption.",
  ],
  [
    "an unencrypted room",
    untrusted("not-encrypted", [], false),
    "I ignored that: this room isn't encrypted. Turn encryption on, or write to me in an encrypted room.",
  ],
  [
    "no cross-signing",
    untrusted("no-identity"),
    "I ignored that: I only trust verified devices, and your account has no cross-signing. Set it up in your app, then send the command again.",
  ],
  [
    "another identity",
    untrusted("other-identity"),
    "I ignored that: your account's cross-signing identity isn't the one I trust. If you reset it, see my log for how to trust the new one. If you didn't, somebody else may have access to your account.",
  ],
  [
    "an unverified device",
    untrusted("unsigned-device"),
    "I ignored that: it came from `PHONE`, a device you haven't verified. If it's yours, verify it from a verified device, then send the command again. If it isn't, log it out.",
  ],
  [
    "a new device",
    untrusted("new-device", ["LAPTOP", "TABLET"]),
    "I ignored that: it came from `PHONE`, a device I don't trust yet. I trust `LAPTOP` and `TABLET`: set up cross-signing on one of them, verify the new device, then send the command again.",
  ],
  [
    "… and no other left",
    untrusted("new-device"),
    "I ignored that: it came from `PHONE`, a device I don't trust yet. You no longer have any device that I trust. Set up cross-signing, and have your identity added to `TRUSTED_IDENTITIES`.",
  ],
  [
    "an uncertain device",
    untrusted("uncertain-device"),
    "I ignored that: I can't tell which of your devices sent it. Send it again; if that fails, log out and back in on the device that you sent it from.",
  ],
  [
    "a message that mentions",
    words.mentioning([{ userId: "@alice:example.org", name: "Alice" }], words.readyAlert(name)),
    "Alice: clawdbot is ready",
  ],
];

Deno.test("the sentences, one by one", async (t) => {
  for (const [when, { plain }, expected] of sentences) {
    await t.step(`${when}: ${expected}`, () => assert.equal(plain, expected));
  }
});

Deno.test("every sentence of the room is in the table", () => {
  const parts = [
    "answering",
    "called",
    "commandTable",
    "duration",
    "isAddressedTo",
    "lines",
    "longestMs",
    "parse",
    "parseDuration",
    "reasons",
  ];
  const helpers = [...parts, "shortestMs", "stateOf", "stopping", "timeLeft"];
  const table = Deno.readTextFileSync(new URL(import.meta.url));
  const missing = Object.keys(words).filter((each) => !helpers.includes(each) && !table.includes(`words.${each}(`));
  assert.deepEqual(missing, []);
});

Deno.test("HTML says the same as the plain text, modestly, and lets nothing foreign in", async (t) => {
  for (const [when, { plain, html }] of sentences) {
    await t.step(when, () => {
      const tags = [...html.matchAll(/<(\/?\w+)[^>]*>/g)].map(([, tag = ""]) => tag.replace("/", ""));
      assert.deepEqual(tags.filter((tag) => !["a", "b", "br", "code"].includes(tag)), []);
      const text = html.replaceAll("<br>", "\n").replaceAll(/<\/?code>/g, "`").replaceAll(/<[^>]*>/g, "")
        .replaceAll(/&#(\d+);/g, (_, code) => String.fromCharCode(Number(code)));
      assert.equal(text, plain);
    });
  }
  await t.step("a mention links to the user", () => {
    const { html } = words.mentioning([{ userId: "@a:h", name: "<i>A\u202E" }], words.readyAlert(name));
    assert.equal(html, '<a href="https://matrix.to/#/%40a%3Ah">&#60;i&#62;A</a>: <b>clawdbot</b> is ready');
  });
  await t.step("what the cluster says is cut and escaped", () => {
    const { html } = words.reasons({ problems: [{ ...image, reason: "<i>", message: `${"x".repeat(400)}\nline` }] });
    assert.match(html, /^the image <code>claw:9<\/code> can&#39;t be pulled \(<code>&#60;i&#62;<\/code>: x{300}…\)$/);
  });
  await t.step("an unknown command is cut between characters, and can't turn its line around", () => {
    assert.ok(words.unknownCommand("🦞".repeat(101)).plain.startsWith(`Unknown command: ${"🦞".repeat(100)}….`));
    assert.ok(words.unknownCommand("a\u202Eb").plain.startsWith("Unknown command: a b."));
  });
});

Deno.test("stateOf() returns one of four states", async (t) => {
  const rows: [state: string, name: string, counts: Counts][] = [
    ["off", "nothing wanted, nothing there", off],
    ["stopping", "nothing wanted, a pod there", { ...off, current: 1 }],
    ["stopping", "nothing wanted, counts of before", { ...off, settled: false }],
    ["running", "all that is wanted is ready", running],
    ["running", "one more than wanted", { ...running, current: 2, ready: 2 }],
    ["starting", "wanted, not ready", { ...running, ready: 0 }],
    ["starting", "wanted, counts of before", { ...running, settled: false }],
    ["starting", "one of three ready", { ...running, desired: 3 }],
  ];
  for (const [state, name, counts] of rows) {
    await t.step(`${name}: ${state}`, () => assert.equal(words.stateOf(counts), state));
  }
});

Deno.test("duration() rounds down to two units, timeLeft() to the nearest minute", async (t) => {
  const second = 1_000;
  const rows: [ms: number, duration: string, left: string][] = [
    [-5, "0 s", "0 s"],
    [999, "0 s", "1 s"],
    [42 * second, "42 s", "42 s"],
    [89 * second, "1 min", "89 s"],
    [90 * second, "1 min", "2 min"],
    [4 * minute + 5 * second, "4 min", "4 min"],
    [42 * minute + 37 * second, "42 min", "43 min"],
    [hour, "1 h", "1 h"],
    [2 * hour - 2 * second, "1 h 59 min", "2 h"],
    [3 * hour + 12 * minute, "3 h 12 min", "3 h 12 min"],
    [2 * day + 4 * hour + minute, "2 d 4 h", "2 d 4 h"],
  ];
  for (const [ms, duration, left] of rows) {
    await t.step(`${ms} ms`, () => assert.deepEqual([words.duration(ms), words.timeLeft(ms)], [duration, left]));
  }
});
