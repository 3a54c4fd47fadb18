/** Rows about targets: interference by the API server, by proxies and by other people during a command. */

import assert from "node:assert/strict";
import type { RequestInfo } from "../../../testbed/proxy.ts";
import { elapsed, eventually, type Ground, Subject, type SubjectOptions } from "../faults/subject.ts";
import { textOf } from "../conversation.ts";
import { rings } from "../story/transcript.ts";
import type { HostileRow } from "./row.ts";

const isRead = ({ method, path }: RequestInfo) => method === "GET" && path.endsWith("/deployments/clawdbot");
/** Duration of a start, long enough for the fault to occur during it. */
const slow: SubjectOptions = { target: { startDelayMs: 4_000 } };

/** Waits for a message of the operator. Edits count. */
async function hears({ talk }: Subject, what: RegExp): Promise<string> {
  const isMeant = (event: Parameters<typeof textOf>[0]) => event.type === "m.room.message" && what.test(textOf(event));
  return textOf(await talk.seen.first(`${what}`, isMeant, 90_000));
}

/**
 * Requests for the target get this response for 3 s of a start. The operator must still report when the target becomes
 * ready, and nothing else.
 */
function answeredInTheMiddle(letter: string, what: string, answer: { status: number; body: unknown }): HostileRow {
  return {
    number: `15${letter}`,
    input: `${what}, for 3 s of a start`,
    before: "its story ends: ready, and nobody is told",
    where: "real",
    run: async (ground) => {
      await using subject = await Subject.ready(ground, slow);
      await subject.send("start", 1);
      await hears(subject, /is on/);
      {
        using _fault = subject.kubernetes.addFault({ kind: "answer", ...answer, when: isRead });
        await elapsed(3_000);
      }
      const told = await hears(subject, /is ready/);
      const texts = subject.talk.seen.events.filter(({ sender }) => sender === subject.operatorId).map(textOf);
      assert.deepEqual(texts.filter((text) => /Can't/.test(text)), []);
      return told;
    },
  };
}

/** A Deployment is deleted, recreated and then scaled by someone, which the operator must report. */
async function madeAgain(ground: Ground): Promise<string> {
  const { testbed: { cluster, workloads } } = ground;
  await using subject = await Subject.ready(ground, { role: "extended" });
  const { namespace } = subject;
  await subject.ask("start", 1);
  await hears(subject, /is ready/);
  await cluster.request("DELETE", `/apis/apps/v1/namespaces/${namespace}/deployments/clawdbot`);
  // The watch ends, and for a moment there is nothing to watch.
  await elapsed(1_500);
  await workloads.createTarget({ namespace, name: "clawdbot", replicas: 1 });
  await subject.state(({ ready }) => ready === 1);
  const began = performance.now();
  await workloads.scaleTarget(namespace, "clawdbot", 3, { manager: "kubectl" });
  await hears(subject, /scaled from 1 to 3 replicas by somebody else/);
  const ms = performance.now() - began;
  assert.ok(ms < 15_000, `told after ${ms} ms`);
  return `a change of it is told after ${Math.round(ms / 1_000)} s`;
}

/** The API server is down when a command arrives, and recovers. */
async function down(ground: Ground, lastingMs: number): Promise<string> {
  await using subject = await Subject.ready(ground, { environment: { ECHO_MODE: "false" } });
  await subject.kubernetes.setFault({ kind: "silent" });
  const began = performance.now();
  const start = await subject.send("start", 0);
  const first = await subject.answerTo(start);
  const ms = performance.now() - began;
  assert.match(first, /The Kubernetes API isn't answering\. Still trying to start clawdbot/);
  assert.ok(ms > 4_500 && ms < 10_000, `said after ${ms} ms`);
  await elapsed(lastingMs - ms);
  await subject.kubernetes.clearFault();
  const last = await hears(subject, /is on|Can't start/);
  const { replicas } = await subject.state();
  if (/Can't start/.test(last)) {
    await eventually("the sender is mentioned", () => subject.talk.seen.events.some(rings));
    await elapsed(3_000);
    assert.equal((await subject.state()).replicas, 0, "done later, behind people's backs");
  } else assert.equal(replicas, 1);
  return `after ${(ms / 1_000).toFixed(1)} s: "${first}"; then "${last}"`;
}

export const targetRows: readonly HostileRow[] = [
  answeredInTheMiddle("a", "a proxy's 404 to looks", { status: 404, body: "no such page" }),
  answeredInTheMiddle("b", "the API server's 401 to looks", {
    status: 401,
    body: { kind: "Status", apiVersion: "v1", status: "Failure", reason: "Unauthorized", code: 401 },
  }),
  answeredInTheMiddle("c", "a 403 to looks that doesn't last", {
    status: 403,
    body: { kind: "Status", apiVersion: "v1", status: "Failure", reason: "Forbidden", code: 403 },
  }),
  {
    number: "29c",
    input: "a Deployment is deleted and made again",
    before: "not watched for five minutes",
    where: "real",
    run: madeAgain,
  },
  {
    number: "30i",
    input: "the API server is silent for 12 s of a command",
    before: "nothing is said until it answers",
    where: "real",
    run: (ground) => down(ground, 12_000),
  },
  {
    number: "30j",
    input: "the API server is silent for 40 s of a command",
    before: "nothing is said for 30 s",
    where: "real",
    run: (ground) => down(ground, 40_000),
  },
  {
    number: "30k",
    input: "no node can take the pod",
    before: "the edited answer says nothing of it for 10 min",
    where: "real",
    run: async (ground) => {
      await using subject = await Subject.ready(ground, { role: "extended", target: { image: "example/pending" } });
      await subject.send("start", 1);
      const told = await hears(subject, /Not scheduled yet: .*Insufficient memory/);
      assert.ok(!subject.talk.seen.events.some(rings), "a phone rang");
      return told;
    },
  },
  {
    number: "30l",
    input: "a status, of which no count before is known",
    before: "`undefined → 0` in the log",
    where: "real",
    run: async (ground) => {
      await using subject = await Subject.ready(ground);
      await subject.untilLogged(/status clawdbot by @/);
      const log = await subject.log();
      assert.doesNotMatch(log, /undefined/);
      return `"${/status clawdbot by .*/.exec(log)?.[0].replace(/ by @.*?: /, " by …: ")}"`;
    },
  },
];
