/** Failures of the homeserver, and recovery. */

import assert from "node:assert/strict";
import type { Fault } from "../../../testbed/proxy.ts";
import { elapsed, type Ground, Subject } from "./subject.ts";
import type { Measured, Row } from "./table.ts";

const shortMs = 20_000;
const longMs = [60_000, 300_000];

/** Alice sends `start` while the operator can't receive it. It is executed after the recovery, followed by `stop`. */
async function ride(subject: Subject, fault: Fault, ms: number): Promise<Measured> {
  const { homeserver } = subject;
  const begin = performance.now();
  await homeserver.setFault(fault);
  const start = await subject.send("start", 1);
  await elapsed(ms);
  const requests = fault.kind === "refuse" ? await subject.failedAttempts() : homeserver.arrivedSince(begin);
  const over = performance.now();
  await homeserver.clearFault();
  assert.match(await subject.answerTo(start), /is on/);
  return { lastedMs: over - begin, recoveredMs: performance.now() - over, requests, ...await subject.finish() };
}

/** Stops the homeserver. Nobody can send meanwhile, so the command is sent after the restart. */
async function stopHomeserver(ground: Ground, ms: number): Promise<Measured> {
  const { homeserver } = ground.testbed;
  await using subject = await Subject.ready(ground, { direct: true });
  const begin = performance.now();
  await homeserver.stop();
  await elapsed(ms);
  const requests = await subject.failedAttempts();
  await homeserver.start();
  const over = performance.now();
  assert.match(await subject.ask("start", 1), /is on/);
  return { lastedMs: over - begin, recoveredMs: performance.now() - over, requests, ...await subject.finish() };
}

function rowsFor(name: string, fault: Fault, durationsMs = [shortMs, ...longMs]): Row<Ground>[] {
  return durationsMs.map((ms) => ({
    fault: `homeserver: ${name}`,
    long: ms > shortMs,
    run: async (ground) => {
      await using subject = await Subject.ready(ground);
      return await ride(subject, fault, ms);
    },
  }));
}

const limited = { errcode: "M_LIMIT_EXCEEDED", error: "Too Many Requests", retry_after_ms: 3_000 };

export const homeserverRows: readonly Row<Ground>[] = [
  ...[shortMs, ...longMs].map((ms): Row<Ground> => ({
    fault: "homeserver: stopped",
    alone: true,
    long: ms > shortMs,
    run: (ground) => stopHomeserver(ground, ms),
  })),
  ...rowsFor("502 from a proxy", { kind: "answer", status: 502, body: "<html>502 Bad Gateway</html>" }),
  ...rowsFor("429, Retry-After 3", { kind: "answer", status: 429, headers: { "retry-after": "3" }, body: limited }),
  ...rowsFor("connection refused", { kind: "refuse" }),
  ...rowsFor("accepted but silent", { kind: "silent" }),
  ...rowsFor("accepted but silent, connections lost", { kind: "silent", forGood: true }, [shortMs]),
  ...rowsFor("body stalled", { kind: "stall" }),
  ...rowsFor("body stalled, connections lost", { kind: "stall", forGood: true }, [shortMs]),
];
