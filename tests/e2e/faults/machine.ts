/** Failures of the machine: name resolution, clock, disk, and kills of the process. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { WallClock } from "../wall_clock.ts";
import { elapsed, type Ground, Subject, type SubjectOptions } from "./subject.ts";
import type { Measured, Row } from "./table.ts";

/**
 * Command prefix that runs a shell script as root in its own mount namespace. The script must end by running its
 * arguments.
 */
function surroundedBy(script: readonly string[]): string[] {
  return ["unshare", Deno.uid() === 0 ? "-m" : "-rm", "/bin/sh", "-c", script.join("\n"), "sh"];
}

/** Gives the homeserver a name that resolves only once it is in `hosts`. No DNS server is reachable. */
export function ownNames(ground: Ground): { hosts: string; given: SubjectOptions } {
  const folder = Deno.makeTempDirSync({ dir: ground.testbed.folder });
  const hosts = join(folder, "hosts");
  const resolver = join(folder, "resolv.conf");
  Deno.writeTextFileSync(hosts, "");
  Deno.writeTextFileSync(resolver, "nameserver 127.0.0.1\noptions attempts:1 timeout:1\n");
  const within = surroundedBy([
    "set -e",
    `mount --bind '${hosts}' /etc/hosts`,
    `[ ! -e /etc/resolv.conf ] || mount --bind '${resolver}' "$(readlink -f /etc/resolv.conf)"`,
    'exec "$@"',
  ]);
  return { hosts, given: { within, homeserverName: "homeserver.invalid" } };
}

async function unknownName(ground: Ground): Promise<Measured> {
  const { hosts, given } = ownNames(ground);
  await using subject = await Subject.create(ground, given);
  const begin = performance.now();
  const starting = subject.start();
  starting.catch(() => {}); // awaited below, unless something else fails first
  await elapsed(6_000);
  const requests = await subject.failedAttempts();
  assert.ok(requests > 1, await subject.log());
  await Deno.writeTextFile(hosts, "127.0.0.1 homeserver.invalid\n");
  const over = performance.now();
  await starting;
  const recoveredMs = performance.now() - over;
  await subject.meet();
  assert.match(await subject.ask("start", 1), /is on/);
  return { lastedMs: over - begin, recoveredMs, requests, ...await subject.finish() };
}

/** The wall clock jumps, as on a board without a battery when it reaches its time server. */
async function clockJumps(ground: Ground): Promise<Measured> {
  const clock = await WallClock.find(ground.testbed.folder);
  if (clock === undefined) {
    return { lastedMs: 0, requests: 0, lost: 0, doubled: 0, end: "not run: there is no libfaketime here" };
  }
  await using subject = await Subject.ready(ground, { environment: clock.environment });
  const begin = performance.now();
  const jumps = [[7_200, "start", "on"], [-7_200, "stop", "off"], [0, "start", "on"]] as const;
  for (const [seconds, word, effect] of jumps) {
    await clock.set(seconds);
    assert.match(await subject.ask(word, 1), new RegExp(`is ${effect}`), `after a jump to ${seconds} s`);
  }
  const ms = performance.now() - begin;
  const requests = subject.homeserver.arrivedSince(begin) + subject.kubernetes.arrivedSince(begin);
  return { lastedMs: ms, requests, ...await subject.finish() };
}

/** The store's disk fills up. The operator exits, and continues where it was once there is space. */
async function diskFull(ground: Ground): Promise<Measured> {
  const folder = await Deno.makeTempDir({ dir: ground.testbed.folder });
  const [full, saved] = [join(folder, "full"), join(folder, "saved")];
  const within = surroundedBy([
    'mkdir -p "$CRYPTO_STORE_PATH" && mount -t tmpfs -o size=16m,mode=700 tmpfs "$CRYPTO_STORE_PATH" || exit 99',
    `(while kill -0 $$ && [ ! -e '${full}' ]; do sleep 0.1; done; cat /dev/zero >"$CRYPTO_STORE_PATH/other") &`,
    '"$@"',
    "code=$?",
    'rm -f "$CRYPTO_STORE_PATH/other"',
    `cp -a "$CRYPTO_STORE_PATH" '${saved}'`,
    "exit $code",
  ]);
  await using subject = await Subject.ready(ground, { within });
  const begin = performance.now();
  await Deno.writeTextFile(full, "");
  const ended = subject.running.untilEnded();
  // Space that the store has already allocated lasts for a few commands.
  for (let round = 0; subject.running.running && round < 40; round += 1) {
    const command = await subject.send(round % 2 === 0 ? "start" : "stop", 1);
    // A missing answer is awaited after the restart.
    await Promise.race([ended, subject.answerTo(command).catch(() => {})]);
  }
  const code = await ended;
  assert.equal(code, 1, "exit code with a full disk");
  assert.match(await subject.log(), /Cannot use the store .*disk is full/);
  const over = performance.now();
  const requests = subject.homeserver.arrivedSince(begin) + subject.kubernetes.arrivedSince(begin);
  const { within: _, ...options } = subject.options;
  await subject.start({ ...options, environment: { ...options.environment, CRYPTO_STORE_PATH: saved } });
  const counts = await subject.tallyAll();
  const recoveredMs = performance.now() - over;
  await subject.endBySignal();
  return { lastedMs: over - begin, recoveredMs, requests, ...counts, end: `by itself: ${code}` };
}

const kills = 8;

/** Kills the operator at moments spread over a command, and restarts it. */
async function killed(ground: Ground): Promise<Measured> {
  await using subject = await Subject.ready(ground);
  const begin = performance.now();
  let longest = 0;
  for (let round = 0; round < kills; round += 1) {
    const command = await subject.send(round % 2 === 0 ? "start" : "stop", 1);
    await elapsed(round * 25);
    await subject.running.kill();
    const over = performance.now();
    await subject.start();
    await subject.answerTo(command);
    longest = Math.max(longest, performance.now() - over);
  }
  const lastedMs = performance.now() - begin;
  assert.match(await subject.ask("start", 1), /is on/);
  return { lastedMs, recoveredMs: longest, requests: 0, ...await subject.finish() };
}

/**
 * Kills the operator after its answer was sent and before it gets the response. Meanwhile the homeserver restarts and
 * may forget the transaction ID.
 */
async function killedInMidSend(ground: Ground): Promise<Measured> {
  const { homeserver } = ground.testbed;
  await using subject = await Subject.ready(ground);
  const begin = performance.now();
  const killed = Promise.withResolvers<void>();
  const killing = subject.homeserver.addFault({
    kind: "forge",
    when: ({ method, path }) => method === "PUT" && path.includes("/send/"),
    forge: async (_, ask) => {
      const answer = await ask();
      await subject.running.kill();
      killed.resolve();
      return { ...answer, then: "drop" };
    },
  });
  const command = await subject.send("start", 1);
  await killed.promise;
  killing[Symbol.dispose]();
  const requests = subject.homeserver.arrivedSince(begin);
  await homeserver.stop();
  await homeserver.start();
  const over = performance.now();
  await subject.start();
  assert.match(await subject.answerTo(command), /is on|is ready/);
  const recoveredMs = performance.now() - over;
  return { lastedMs: over - begin, recoveredMs, requests, ...await subject.finish() };
}

export const machineRows: readonly Row<Ground>[] = [
  { fault: "machine: the homeserver's name does not resolve at the start", run: unknownName },
  {
    fault: "machine: clock 2 h ahead, 2 h behind, right again",
    synapseOnly: "without unsigned.age a command is as old as the two clocks say: too old, and answered so",
    run: clockJumps,
  },
  { fault: "machine: disk full", run: diskFull },
  { fault: `machine: kill -9, ${kills} times around commands`, run: killed },
  { fault: "machine: kill -9 when an answer is sent, and the homeserver restarts", alone: true, run: killedInMidSend },
];
