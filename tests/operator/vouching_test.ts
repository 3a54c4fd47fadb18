import assert from "node:assert/strict";
import { configure, type LogRecord, reset } from "@logtape/logtape";
import { RejectedError, TransientError } from "../../lib/errors.ts";
import type { ListedDevice, Payload, Pin, Published, SenderFacts } from "../../lib/operator/mod.ts";
import { alice, clear, decrypted, goodSender, mallory, rest, room, self, World } from "./fakes.ts";

const device = (deviceId: string, key = `key of ${deviceId}`, signed = false): ListedDevice => ({
  deviceId,
  ed25519: key,
  crossSignedByOwner: signed,
});
const [phone, tablet, evil] = [device("MYPHONE"), device("TABLET"), device("EVILONE")];
const knownPhone = { ...phone, deleted: false, sameKeysAsSession: true };

let index = 0;
/** A message from a device, of a user of whom this is published. */
function from(
  sending: ListedDevice,
  published: Published,
  body: string,
  changes: Partial<SenderFacts> = {},
): { payload: Payload } {
  const senderFacts: SenderFacts = {
    ...goodSender,
    ...published,
    deviceId: sending.deviceId,
    device: { ...sending, deleted: false, sameKeysAsSession: true },
    ...changes,
  };
  index += 1;
  return { payload: decrypted(body, { sessionId: "vouching", messageIndex: index }, { senderFacts }) };
}

const bare = (...devices: ListedDevice[]): Published => ({ identity: undefined, devices });
const signed = (masterKey: string, ...devices: ListedDevice[]): Published => ({ identity: { masterKey }, devices });

const newTablet = "A new device of @alice:example.org, TABLET, appeared. Its session key is `key  of T ABLE T`. " +
  "If it is yours, send `trust TABLET` from a device I know. Until then I do not obey it.";
const newTabletHint = "I did nothing: that message came from a device I do not know yet. " +
  "Send `trust TABLET` from a device I know, if it is yours.";

/** A world in which Alice is known by her phone, and gave her last command in the room. */
async function acquainted(changes: ConstructorParameters<typeof World>[0] = {}): Promise<World> {
  const world = new World(changes);
  await using running = world.start();
  await running.receive("status", from(phone, bare(phone), "status"));
  world.said.clear();
  return world;
}

function devicesOf(world: World): string[] {
  const pin = world.pins.get(alice);
  return pin?.kind === "devices" ? pin.devices.map(({ deviceId }) => deviceId) : [];
}

/** Everything that was logged at warning level or above while `work` went on. */
async function warningsOf(work: () => Promise<void>): Promise<LogRecord[]> {
  const records: LogRecord[] = [];
  await configure({
    reset: true,
    sinks: { all: (record) => void records.push(record) },
    loggers: [{ category: [], lowestLevel: "debug", sinks: ["all"] }, {
      category: ["logtape", "meta"],
      lowestLevel: "fatal",
      sinks: [],
    }],
  });
  try {
    await work();
  } finally {
    await reset();
  }
  return records;
}

function inWords({ message }: LogRecord): string {
  return message.map((part) => typeof part === "string" ? part : JSON.stringify(part)).join("");
}

Deno.test("Operator announces a new device once, and believes it after the word of a known one", async () => {
  const world = await acquainted();
  const now = bare(phone, tablet);
  {
    await using running = world.start();
    await running.receive("stop", from(tablet, now, "start"));
    assert.deepEqual(world.texts, [newTablet]);
    const [alert] = [...world.said.values()].map(({ answer }) => answer);
    assert.deepEqual([alert?.form, alert?.mentions, alert?.roomId, alert?.reply], ["text", [alice], room, false]);
    await running.receive("start", from(tablet, now, "start"));
    assert.deepEqual(world.texts, [newTablet, newTabletHint]);
  }
  // The announcement, the pin and what waits outlive the process.
  await using running = world.start();
  await running.receive("start", from(tablet, now, "start"));
  await running.receive("start", from(phone, now, "trust tablet"));
  assert.deepEqual(world.texts.slice(2), [newTabletHint, "I believe your device TABLET from now on."]);
  assert.deepEqual(devicesOf(world), ["MYPHONE", "TABLET"]);
  assert.deepEqual(world.effects, []);
  await running.receive("start", from(tablet, now, "start"));
  assert.deepEqual(world.effects, [1]);
  assert.deepEqual(world.refusals, ["new-device", "new-device", "new-device"]);
  assert.equal(world.records.at(-2)?.command, "trust");
});

Deno.test("Operator announces five devices or identities of a user in an hour, and then that there are more", async () => {
  const more = "More new devices or identities of @alice:example.org have appeared than the 5 that I announce in an " +
    "hour. If they are not yours, somebody else has got into the account, or runs its homeserver.";
  const world = await acquainted();
  const flood = Array.from({ length: 12 }, (_, index) => device(`FLOOD${"ABCDEFGHIJKL".charAt(index)}`));
  const pending = () => {
    const pin = world.pins.get(alice);
    return pin?.kind === "devices" ? pin.pending.length : 0;
  };
  const announced = () => world.texts.filter((said) => said.startsWith("A new device")).length;
  await using running = world.start();
  for (const _ of [1, 2]) await running.receive("", from(phone, bare(phone, ...flood), "status"));
  assert.deepEqual([announced(), pending()], [5, 5]);
  assert.equal(world.texts.filter((said) => said === more).length, 1);
  await running.receive("", from(phone, bare(phone, ...flood), "trust FLOODL"));
  assert.deepEqual(devicesOf(world), ["MYPHONE"], "what was not announced is not believed");

  await world.clock.advance(3_600_000);
  await running.receive("", from(phone, bare(phone, ...flood), "status"));
  assert.deepEqual([announced(), pending()], [10, 10]);
  assert.equal(world.texts.filter((said) => said === more).length, 2);
  await world.clock.advance(3_600_000);
  await running.receive("", from(phone, bare(phone, ...flood), "status"));
  assert.deepEqual([announced(), pending()], [12, 12]);
  assert.equal(world.texts.filter((said) => said === more).length, 2);
});

Deno.test("Operator announces five changes of an identity in an hour, and then that there are more", async () => {
  const world = new World();
  world.pins.set(alice, { kind: "identity", masterKey: "master", sinceMs: 0, roomId: room });
  await using running = world.start();
  const warnings = await warningsOf(async () => {
    for (let change = 0; change < 8; change += 1) {
      await running.receive("", from(phone, signed(`master ${change}`, phone), "hello"));
    }
  });
  assert.equal(world.texts.filter((said) => said.includes("has another identity")).length, 5);
  assert.equal(world.texts.filter((said) => said.startsWith("More new devices")).length, 1);
  assert.equal(warnings.filter((record) => inWords(record).includes("TRUSTED_IDENTITIES")).length, 5);
});

Deno.test("Operator takes nobody's word for a device but that of one it believes, encrypted, and once", async (t) => {
  const now = bare(phone, tablet, evil);
  const rows: [name: string, how: Parameters<World["receive"]>[1], settings?: { requireEncryption: boolean }][] = [
    ["the device itself", from(tablet, now, "trust TABLET")],
    ["another that waits", from(evil, now, "trust TABLET")],
    ["a stranger", { ...from(phone, now, "trust TABLET"), sender: mallory }],
    ["another allowed user", { ...from(phone, now, "trust TABLET"), sender: "@bob:example.org" }],
    ["a forger", from(phone, now, "trust TABLET", { mismatchedSender: true })],
    ["an edit", {
      payload: decrypted("trust TABLET", { sessionId: "edit", messageIndex: 0 }, {
        content: { "m.new_content": { body: "trust TABLET" } },
        senderFacts: { ...goodSender, ...now, deviceId: phone.deviceId, device: knownPhone },
      }),
    }],
    ["an old message", { ...from(phone, now, "trust TABLET"), ageMs: 300_001 }],
    ["clear text in the room", { payload: clear("trust TABLET") }],
    ["clear text elsewhere", { payload: clear("trust TABLET"), roomId: "!clear:example.org" }, {
      requireEncryption: false,
    }],
  ];
  for (const [name, how, settings] of rows) {
    await t.step(name, async () => {
      const world = await acquainted(settings);
      world.room("!clear:example.org", { encrypted: false });
      await using running = world.start();
      await running.receive("start", from(tablet, now, "start"));
      await running.receive("", how);
      assert.deepEqual(devicesOf(world), ["MYPHONE"]);
      await running.receive("start", from(tablet, now, "start"));
      assert.deepEqual(world.effects, []);
    });
  }
});

Deno.test("Operator takes no word for what it has not shown yet, nor a word twice", async () => {
  const world = await acquainted();
  const word = from(phone, bare(phone, tablet), "trust TABLET");
  await using running = world.start();
  // Before the tablet was shown, the word is for nothing, and it is used up.
  await running.receive("x", word);
  assert.deepEqual(world.texts, ["Nothing waits under TABLET. Nothing waits for your word.", newTablet]);
  assert.deepEqual(devicesOf(world), ["MYPHONE"]);
  await running.receive("x", word);
  assert.deepEqual(world.refusals.slice(-1), ["repeat"]);
  assert.deepEqual(devicesOf(world), ["MYPHONE"]);
});

Deno.test("Operator believes the very key that it has shown, and no other", async () => {
  const world = await acquainted();
  const swapped = device("TABLET", "another key");
  await using running = world.start();
  await running.receive("", from(tablet, bare(phone, tablet), "start"));
  await running.receive("", { ...from(phone, bare(phone), "trust TABLET") });
  assert.equal(world.texts.at(-1), "I did nothing: `TABLET` is gone, or has another key now.");
  await running.receive("", from(tablet, bare(phone, tablet), "status"));
  await running.receive("", { ...from(phone, bare(phone, swapped), "trust TABLET") });
  assert.deepEqual(devicesOf(world), ["MYPHONE"]);
  await running.receive("", from(swapped, bare(phone, swapped), "start"));
  assert.deepEqual(world.effects, []);
});

Deno.test("Operator believes the very identity that it has shown, and no other", async () => {
  const world = await acquainted();
  await using running = world.start();
  await running.receive("", from(phone, signed("one master", phone), "status"));
  const shownId = /send `trust ([A-Z]+)` from/.exec(world.texts.join("\n"))?.[1] ?? "";
  for (const published of [signed("another master", phone), bare(phone)]) {
    await running.receive("", from(phone, published, `trust ${shownId}`));
    assert.ok(world.texts.includes(`I did nothing: \`${shownId}\` is gone, or has another key now.`));
    world.said.clear();
    assert.deepEqual(devicesOf(world), ["MYPHONE"]);
  }
});

Deno.test("Operator that believes all devices takes no word for those that count when it does not any more", async () => {
  const world = new World({ senderTrust: "any" });
  const pending = [{ shownId: "TABLET", deviceId: "TABLET", key: tablet.ed25519 }];
  world.pins.set(alice, { kind: "devices", devices: [phone], pending, sinceMs: 0 });
  await using running = world.start();
  await running.receive("", from(tablet, bare(phone, tablet), "trust TABLET"));
  assert.deepEqual(world.texts, ["Nothing waits under TABLET. Nothing waits for your word."]);
  assert.deepEqual(devicesOf(world), ["MYPHONE"]);
  await running.receive("", from(phone, bare(phone, tablet), "trust TABLET"));
  assert.deepEqual(devicesOf(world), ["MYPHONE", "TABLET"]);
});

Deno.test("Operator shows a device that bears a known one's id by its key", async () => {
  const world = await acquainted();
  const again = device("MYPHONE", "another key");
  await using running = world.start();
  await running.receive("", from(again, bare(again), "start"));
  assert.match(world.texts[0] ?? "", /^A device of @alice:example.org calls itself MYPHONE, like one that I know/);
  assert.match(world.texts[0] ?? "", /send `trust [A-Z]{8}`/);
  assert.deepEqual(world.refusals, ["new-device"]);
});

Deno.test("Operator answers a word that names nothing with what waits", async () => {
  const world = await acquainted();
  await using running = world.start();
  await running.receive("", from(phone, bare(phone), "trust TABLET"));
  await running.receive("", from(phone, bare(phone), "trust"));
  await running.receive("", from(phone, bare(phone, tablet), "trust FOO"));
  await running.receive("", from(phone, signed("new master", phone, tablet), "status"));
  await running.receive("", from(phone, signed("new master", phone, tablet), "trust"));
  await running.receive("", from(phone, signed("new master", phone), "trust"));
  const answers = [...world.said.values()].filter(({ kind }) => kind === "answer").map(({ plain }) => plain);
  const { pending } = world.pins.get(alice) as Extract<Pin, { kind: "devices" }>;
  assert.deepEqual(answers, [
    "Nothing waits under TABLET. Nothing waits for your word.",
    "Nothing waits for your word.",
    "Nothing waits under FOO. Nothing waits for your word.",
    "clawdbot is off: 0/0 ready, 0 available",
    `What waits for your word: device \`TABLET\`, identity \`${pending[1]?.shownId}\`.`,
    `What waits for your word: identity \`${pending[1]?.shownId}\`.`,
  ]);
  assert.ok(world.records.every(({ command, outcome }) => outcome === (command === "trust" ? "failed" : "done")));
});

Deno.test("Operator believes an identity that appears only after a word, and from then on that one alone", async () => {
  const world = await acquainted();
  const own = signed("new master", phone, { ...tablet, crossSignedByOwner: true });
  await using running = world.start();
  world.published.set(alice, own);
  running.operator.devicesChanged([alice]);
  await rest();
  const shownId = /send `trust ([A-Z]{8})` from/.exec(world.texts[1] ?? "")?.[1];
  assert.match(
    world.texts[1] ?? "",
    /^@alice:example.org has an identity \(cross-signing\) now, and had none before\./,
  );
  await running.receive("", from({ ...tablet, crossSignedByOwner: true }, own, "start"));
  assert.deepEqual(world.refusals, ["new-device"]);
  // However the phone writes it.
  await running.receive("", from(phone, own, ` Trust  ${shownId?.toLowerCase()}`));
  assert.equal(
    world.texts.at(-1),
    `I believe the devices signed under your identity \`${shownId}\` from now on, and no others.`,
  );
  assert.equal(world.pins.get(alice)?.kind, "identity");
  await running.receive("", from({ ...tablet, crossSignedByOwner: true }, own, "start"));
  assert.deepEqual(world.effects, [1]);
  await running.receive("", from(phone, own, "stop"));
  await running.receive("", from(phone, bare(phone), "stop"));
  assert.deepEqual(world.refusals, ["new-device", "unsigned-device", "other-identity"]);
  assert.deepEqual(world.effects, [1]);
});

Deno.test("Operator tells of a changed identity, and the log says what would accept it", async () => {
  const world = new World();
  const mine = device("MYPHONE", "key", true);
  const changed = signed("new+master/key=", mine);
  const records = await warningsOf(async () => {
    await using running = world.start();
    await running.receive("", from(mine, signed("old master", mine), "start"));
    await running.receive("", from(mine, changed, "stop"));
    await running.receive("", from(mine, changed, "stop"));
  });
  assert.deepEqual(world.effects, [1]);
  assert.deepEqual(world.refusals, ["other-identity", "other-identity"]);
  assert.deepEqual(world.texts.slice(1), [
    "@alice:example.org has another identity (cross-signing) now than the one I know, so I obey none of that " +
    "account's devices. Was it you who reset it? Then whoever runs me can accept it: my log says how. If not, " +
    "somebody else has got into the account.",
    "I did nothing: your account does not have the identity (cross-signing) that I know. My log says how to accept the new one.",
  ]);
  const warnings = records.filter(({ level }) => level === "warning").map(inWords);
  const setting = "TRUSTED_IDENTITIES=@alice:example.org=new+master/key=";
  assert.equal(warnings.filter((words) => words.includes(setting)).length, 1, warnings.join("\n"));

  // With that setting it is believed, and stays so without it.
  const accepting = new Map([[alice, "new+master/key="]]);
  for (const trustedIdentities of [accepting, new Map<string, string>()]) {
    const later = Object.assign(new World({ trustedIdentities }), { pins: world.pins });
    later.setScale(1);
    await using running = later.start();
    await running.receive("", from(mine, changed, "stop"));
    assert.deepEqual(later.effects, [0]);
  }
});

Deno.test("Operator tells of a changed identity and of new devices as soon as they are published", async (t) => {
  const known: Pin = { kind: "identity", masterKey: "old master", sinceMs: 0, roomId: room };
  const byDevices: Pin = { kind: "devices", devices: [phone], pending: [], sinceMs: 0, roomId: room };
  const rows: [name: string, said: RegExp | undefined, pin: Pin | undefined, published: Published, changes?: object][] =
    [
      ["identity", /has another identity/, known, signed("new master")],
      ["same identity, unsigned device", undefined, known, signed("old master", evil)],
      ["identity gone", undefined, known, bare(evil)],
      ["device", /A new device/, byDevices, bare(phone, evil)],
      ["device, in no room yet", undefined, { ...byDevices, roomId: undefined }, bare(phone, evil)],
      ["device, where Alice is no longer", undefined, { ...byDevices, roomId: "!gone" }, bare(phone, evil)],
      ["never seen", undefined, undefined, bare(evil)],
      ["all are believed", undefined, byDevices, bare(phone, evil), { senderTrust: "any" }],
      ["only identities are believed", /has another identity/, byDevices, signed("x", phone), {
        senderTrust: "cross-signed",
      }],
      ["identity that is not the named one", undefined, undefined, signed("x"), {
        trustedIdentities: new Map([[alice, "named"]]),
      }],
      ["named, known, not published", /has another identity/, known, signed("old master"), {
        trustedIdentities: new Map([[alice, "named"]]),
      }],
    ];
  for (const [name, said, pin, published, changes] of rows) {
    for (const when of ["before the start", "while up"]) {
      await t.step(`${name}, ${when}`, async () => {
        const world = new World(changes);
        world.room("!gone", { joined: [self, mallory, "@bob:example.org"] });
        if (pin !== undefined) world.pins.set(alice, pin);
        if (when === "before the start") world.published.set(alice, published);
        await using running = world.start();
        await rest();
        world.published.set(alice, published);
        running.operator.devicesChanged([alice, mallory]);
        await rest();
        assert.equal(world.texts.length, said === undefined ? 0 : 1, world.texts.join("\n"));
        if (said !== undefined) assert.match(world.texts[0] ?? "", said);
      });
    }
  }
});

Deno.test("Operator asks again what is published after a passing failure, and lives with a refusal", async () => {
  const world = await acquainted();
  world.published.set(alice, bare(phone, tablet));
  let calls = 0;
  world.before = (call, user) => {
    if (call !== "published") return;
    assert.equal(user, alice);
    calls += 1;
    if (calls === 1) throw new TransientError("Cannot query keys: 502");
    if (calls === 2) throw new RejectedError("Cannot query keys: 403", 403, "M_FORBIDDEN");
  };
  await using running = world.start();
  await world.clock.advance(1_000);
  assert.deepEqual(world.texts, []);
  running.operator.devicesChanged([alice]);
  running.operator.devicesChanged([alice]);
  await rest();
  assert.equal(calls, 3);
  assert.deepEqual(world.texts, [newTablet]);
});

Deno.test("Operator announces in the room of the last command, and nowhere without the user", async () => {
  const world = await acquainted();
  world.room("!other:example.org", { joined: [alice, mallory, self] });
  await using running = world.start();
  // Whoever sits at the new device picks the room; its owner is told where she is used to being told.
  const sent = from(tablet, bare(phone, tablet), "start");
  await running.receive("", { ...sent, roomId: "!other:example.org" });
  const said = [...world.said.values()].map(({ roomId, plain }) => [roomId, plain]);
  assert.deepEqual(said, [[room, newTablet], ["!other:example.org", newTabletHint]]);

  await running.receive("", { ...from(phone, bare(phone, tablet), "status"), roomId: "!other:example.org" });
  assert.equal(world.pins.get(alice)?.roomId, "!other:example.org");
  world.room("!other:example.org", { joined: [mallory, self] });
  await running.receive("", from(evil, bare(phone, tablet, evil), "start"));
  assert.deepEqual([...world.said.values()].at(-1)?.roomId, room);
});

Deno.test("Operator says nothing to a forger, and counts", async () => {
  const world = await acquainted();
  await using running = world.start();
  await running.receive("", from(evil, bare(phone, evil), "start", { mismatchedSender: true }));
  await running.receive("", { payload: { kind: "undecryptable", why: { kind: "forged" }, sessionId: "s" } });
  await world.clock.advance(60_000);
  assert.deepEqual(world.texts, []);
  assert.deepEqual(world.refusals, ["mismatched-sender", "mismatched-sender"]);
  assert.deepEqual([2, 3].map((seq) => world.outcome(seq)), ["mismatched-sender", "mismatched-sender"]);
});

Deno.test("Operator tells why it refuses a device, once in ten minutes", async (t) => {
  const mine = device("MYPHONE", "key", true);
  const rows: [said: string, how: () => { payload: Payload }, changes?: object][] = [
    [
      "I did nothing: that message came from EVILONE, a device that you have not verified. " +
      "If it is yours, verify it from another of your devices, then send it again.",
      () => from(evil, signed("master", mine, evil), "start"),
    ],
    [
      "I did nothing: I obey verified devices only, and your account has no cross-signing set up.",
      () => from(phone, bare(phone), "start"),
      { senderTrust: "cross-signed" },
    ],
  ];
  for (const [said, how, changes] of rows) {
    await t.step(said, async () => {
      const world = new World(changes);
      await using running = world.start();
      await running.receive("", how());
      await running.receive("", how());
      assert.deepEqual(world.texts, [said]);
      await world.clock.advance(600_000);
      await running.receive("", how());
      assert.deepEqual(world.texts, [said, said]);
      assert.deepEqual(world.effects, []);
    });
  }
});

Deno.test("Operator judges by the pin again right before acting", async () => {
  const world = await acquainted();
  world.before = (call) => {
    if (call !== "scaler.read") return;
    world.pins.set(alice, { kind: "identity", masterKey: "master", sinceMs: 0 });
  };
  await using running = world.start();
  await running.receive("", from(phone, bare(phone), "start"));
  assert.deepEqual(world.effects, []);
  assert.equal(world.outcome(2), "other-identity");
});

Deno.test("Operator logs no message text and nothing that was typed", async () => {
  const secret = "PASSWORD1234";
  const records = await warningsOf(async () => {
    const world = await acquainted();
    await using running = world.start();
    await running.receive(secret);
    for (
      const how of [
        from(phone, bare(phone), secret),
        from(phone, bare(phone), `trust ${secret}`),
        from(tablet, bare(phone, tablet), `trust ${secret}`),
        from(phone, bare(phone), `${self}: ${secret}`),
        { ...from(phone, bare(phone), secret), sender: mallory },
        { payload: clear(secret) },
      ]
    ) await running.receive(secret, how);
    await running.receive(secret, {
      event: { type: "m.room.message", content: { body: secret } },
      payload: clear(secret),
    });
  });
  assert.ok(records.length > 5);
  for (const record of records) assert.ok(!Deno.inspect(record, { depth: 9 }).includes(secret), inWords(record));
  assert.ok(records.some((record) => inWords(record).includes("appeared")));
});
