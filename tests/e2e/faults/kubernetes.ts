/** Failures of the Kubernetes API, and recovery. */

import assert from "node:assert/strict";
import type { Fault, RequestInfo } from "../../../testbed/proxy.ts";
import type { SeenEvent } from "../../../testbed/mod.ts";
import { bodyOf, editedBy } from "../conversation.ts";
import { elapsed, type Ground, patienceMs, Subject, type SubjectOptions } from "./subject.ts";
import type { Measured, Row } from "./table.ts";

/** Well within the 30 s for which a command is retried. */
const briefMs = 8_000;
/** Longer than the 30 s for which a command is retried. */
const lastingMs = 35_000;

const isPatch = ({ method }: RequestInfo) => method === "PATCH";

function refusal(code: number, reason: string, headers: Readonly<Record<string, string>> = {}) {
  const body = { kind: "Status", apiVersion: "v1", status: "Failure", reason, code };
  return { kind: "answer", status: code, headers, body } as const;
}

/** Sends a command during the failure. If it was refused or timed out, it is sent again after the recovery. */
async function ride(subject: Subject, ms: number, begins: () => Promise<void>, ends: () => Promise<void>) {
  const { kubernetes } = subject;
  const begin = performance.now();
  await begins();
  const start = await subject.send("start", 1);
  await elapsed(ms);
  const requests = kubernetes.arrivedSince(begin) || await subject.failedAttempts();
  await ends();
  const over = performance.now();
  const answer = await outcomeOf(subject, await subject.answerTo(start));
  if (answer.startsWith("Can't")) {
    subject.wasRefused(start);
    assert.equal((await subject.state()).replicas, 0, "refused, but done");
    assert.match(await subject.ask("start", 1), /is on/);
  }
  const recoveredMs = performance.now() - over;
  return { answer, measured: { lastedMs: over - begin, recoveredMs, requests, ...await subject.finish() } };
}

/** Returns the answer, or, if it only says that the operator is still trying, the final one. */
async function outcomeOf({ talk }: Subject, answer: string): Promise<string> {
  if (!/^The Kubernetes API isn't answering\. Still trying/.test(answer)) return answer;
  const isOutcome = (event: SeenEvent) =>
    editedBy(event) !== undefined && /is on|Can't (start|tell)/.test(bodyOf(event));
  return bodyOf(await talk.seen.first("the outcome of the command", isOutcome, patienceMs));
}

/** Permissions of an operator that watches its target: it reads nothing before a change. */
const watching = { role: "extended" } as const;

function row(name: string, fault: Fault, ms: number, answers: RegExp, permissions: SubjectOptions = {}): Row<Ground> {
  return {
    fault: `Kubernetes: ${name}`,
    run: async (ground): Promise<Measured> => {
      await using subject = await Subject.ready(ground, permissions);
      const { kubernetes } = subject;
      const { answer, measured } = await ride(
        subject,
        ms,
        () => kubernetes.setFault(fault),
        () => kubernetes.clearFault(),
      );
      assert.match(answer, answers);
      return measured;
    },
  };
}

async function stopControlPlane(ground: Ground): Promise<Measured> {
  const { cluster } = ground.testbed;
  await using subject = await Subject.ready(ground, { direct: true });
  return (await ride(subject, briefMs, () => cluster.stop(), () => cluster.start())).measured;
}

const done = /is on/;
const tooLong = /Can't start .* didn't answer within 30 s/;
const unknown = /Can't tell whether .* was started: .* didn't answer within 30 s/;

export const kubernetesRows: readonly Row<Ground>[] = [
  { fault: "Kubernetes: control plane stopped", alone: true, run: stopControlPlane },
  row("connection refused", { kind: "refuse" }, briefMs, done),
  row("hanging", { kind: "silent" }, briefMs, done),
  row("hanging, connections lost", { kind: "silent", forGood: true }, briefMs, done),
  row("hanging for longer than a command is tried", { kind: "silent" }, lastingMs, tooLong),
  row("connection refused, watched", { kind: "refuse" }, briefMs, done, watching),
  row("hanging, watched", { kind: "silent" }, briefMs, done, watching),
  row("hanging for longer than a command is tried, watched", { kind: "silent" }, lastingMs, tooLong, watching),
  row("changes hang for longer, watched", { kind: "silent", when: isPatch }, lastingMs, unknown, watching),
  row("the change is made, its answer is lost, watched", { kind: "drop", when: isPatch }, briefMs, done, watching),
  row("409 at each change, watched", { ...refusal(409, "Conflict"), when: isPatch }, lastingMs, tooLong, watching),
  row("the change is made, its answer is lost", { kind: "drop", when: isPatch }, briefMs, done),
  row("403", refusal(403, "Forbidden"), 1_000, /Can't start .* not allowed to get/),
  row("404", refusal(404, "NotFound"), 1_000, /Can't start .* there's no deployment/),
  row("409 at each change", { ...refusal(409, "Conflict"), when: isPatch }, lastingMs, tooLong),
  row("429, Retry-After 2", refusal(429, "TooManyRequests", { "retry-after": "2" }), briefMs, done),
  row("500", refusal(500, "InternalError"), briefMs, done),
];
