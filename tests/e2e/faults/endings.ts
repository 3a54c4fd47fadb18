/**
 * SIGTERM in each phase. The operator exits with code 0 within 10 s, and work in progress is finished before that or
 * after the next start.
 */

import type { Fault, RequestInfo } from "../../../testbed/proxy.ts";
import { ownNames } from "./machine.ts";
import { eventually, type Ground, Subject, type SubjectOptions } from "./subject.ts";
import { OperatorProcess } from "../../operator_process.ts";
import type { Measured, Row } from "./table.ts";

const isSync = ({ path }: RequestInfo) => path.endsWith("/sync");
const isAnswer = ({ method, path }: RequestInfo) => method === "PUT" && path.includes("/send/");
const isPatch = ({ method }: RequestInfo) => method === "PATCH";

async function endOf(subject: Subject, begin: number): Promise<Measured> {
  const requests = subject.homeserver.arrivedSince(begin) || await subject.failedAttempts();
  const lastedMs = performance.now() - begin;
  return { lastedMs, requests, lost: 0, doubled: 0, end: await subject.endBySignal() };
}

/** SIGTERM before the operator is ready. */
function starting(name: string, fault: Fault | undefined, reached: (subject: Subject) => Promise<void>): Row<Ground> {
  return {
    fault: `SIGTERM: ${name}`,
    run: async (ground) => {
      const given: SubjectOptions = fault === undefined ? ownNames(ground).given : {};
      await using subject = await Subject.create(ground, given);
      if (fault !== undefined) await subject.homeserver.setFault(fault);
      const begin = performance.now();
      subject.running = new OperatorProcess(subject.options);
      await reached(subject);
      return await endOf(subject, begin);
    },
  };
}

/** SIGTERM when it is ready and idle. */
function running(name: string, fault: Fault | undefined, reached: (subject: Subject) => Promise<void>): Row<Ground> {
  return {
    fault: `SIGTERM: ${name}`,
    run: async (ground) => {
      await using subject = await Subject.ready(ground);
      const begin = performance.now();
      if (fault !== undefined) await subject.homeserver.setFault(fault);
      await reached(subject);
      return await endOf(subject, begin);
    },
  };
}

/** SIGTERM during a poll whose response is missing or truncated. */
function polling(name: string, kind: "silent" | "stall"): Row<Ground> {
  return {
    fault: `SIGTERM: ${name}`,
    run: async (ground) => {
      await using subject = await Subject.ready(ground);
      const begin = performance.now();
      const hanging = marked(kind, isSync);
      await subject.homeserver.setFault(hanging.fault);
      await subject.talk.send("status");
      await eventually("a poll that hangs", () => hanging.struck());
      return await endOf(subject, begin);
    },
  };
}

/** Makes a fault that reports whether it has occurred. */
function marked(
  kind: "silent" | "stall",
  when: (request: RequestInfo) => boolean,
): { fault: Fault; struck: () => boolean } {
  let struck = false;
  const mark = (request: RequestInfo) => {
    const strikes = when(request);
    struck ||= strikes;
    return strikes;
  };
  return { fault: { kind, when: mark }, struck: () => struck };
}

/** SIGTERM during a command that hangs at one of the two servers. It must be completed after the next start. */
function busy(
  name: string,
  where: "homeserver" | "kubernetes",
  when: (request: RequestInfo) => boolean,
  isDone: boolean,
) {
  return {
    fault: `SIGTERM: ${name}`,
    run: async (ground: Ground): Promise<Measured> => {
      await using subject = await Subject.ready(ground);
      const begin = performance.now();
      const hanging = marked(isDone ? "stall" : "silent", when);
      await subject[where].setFault(hanging.fault);
      const command = await subject.send("start", 1);
      await eventually("a request that hangs", () => hanging.struck());
      if (isDone) await subject.state(({ replicas }) => replicas === 1);
      const ended = await endOf(subject, begin);
      await subject[where].clearFault();
      await subject.start();
      await subject.answerTo(command);
      const { lost, doubled } = await subject.finish();
      return { ...ended, lost, doubled };
    },
  };
}

const soon = () => Promise.resolve();
const backsOff = (subject: Subject) => subject.untilLogged(/trying again in/);
const asked = (subject: Subject) => eventually("a request", () => subject.homeserver.arrivedSince(0) > 0);

export const endingRows: readonly Row<Ground>[] = [
  starting("login backs off, connection refused", { kind: "refuse" }, backsOff),
  starting("login backs off, name does not resolve", undefined, backsOff),
  starting("login hangs", { kind: "silent" }, asked),
  starting("first sync hangs", { kind: "silent", when: isSync }, (subject) => subject.untilLogged(/logged in/)),
  running("idle", undefined, soon),
  running("sync backs off", { kind: "answer", status: 502, body: "" }, backsOff),
  polling("sync hangs", "silent"),
  polling("sync stalls in the body", "stall"),
  busy("Kubernetes hangs while it is read", "kubernetes", () => true, false),
  busy("Kubernetes hangs before the change", "kubernetes", isPatch, false),
  busy("Kubernetes hangs after the change", "kubernetes", isPatch, true),
  busy("the answer hangs", "homeserver", isAnswer, false),
];
