/**
 * `deno task demo`: the real operator between a sandbox homeserver and a sandbox cluster, with a chat in the terminal.
 * Without a terminal it plays a scripted conversation and exits with 0, or 1 if that fails.
 *
 * @module
 */

import { readPorts, runProgram } from "./program.ts";
import { Scene } from "./scene.ts";
import { playScript } from "./script.ts";
import { chatInTerminal, isTerminal } from "./stage.ts";

async function demonstrate(stop: AbortSignal): Promise<number> {
  const ports = readPorts(["homeserver-port", "kubernetes-port"]);
  const begin = performance.now();
  const isChat = isTerminal();
  await using scene = await Scene.open({
    ports: { homeserver: ports["homeserver-port"], kubernetes: ports["kubernetes-port"] },
    // Short enough to see the agent fall asleep.
    idleStop: isChat ? "1m" : "30m",
  });
  const signal = AbortSignal.any([stop, scene.broken]);
  if (isChat) await chat(scene, signal);
  else await orAborted(play(scene, begin), signal);
  return 0;
}

async function chat({ stage, kubernetes, operator, agent }: Scene, signal: AbortSignal): Promise<void> {
  await chatInTerminal(stage, {
    title: "openclaw-toggle demo",
    advice: [
      "write to clawd, which sleeps after a minute · toggle: start, toggle: status, toggle: help · Ctrl-D ends",
      "write to clawd · toggle: start, toggle: help · Ctrl-D ends",
      "Ctrl-D ends",
    ],
    other: agent,
    ready: operator.ready,
    decorate: (chat) => {
      const show = () => chat.show({ workload: kubernetes.workloads()[0] });
      show();
      return kubernetes.onChange(show);
    },
  }, signal);
  console.log("Ending the operator…");
}

async function play(scene: Scene, begin: number): Promise<void> {
  console.log("openclaw-toggle demo: a sandbox homeserver, a sandbox Kubernetes API, and the real operator");
  await using people = new AsyncDisposableStack();
  const cast = await scene.cast(people);
  console.log(`✔ the operator (process ${scene.operator.pid}) is ready after ${seconds(performance.now() - begin)}`);
  await playScript(cast);
  console.log(`✔ all as it should be, after ${seconds(performance.now() - begin)}`);
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}

/** Settles like the promise, or rejects with the signal's reason if that comes first. */
async function orAborted(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const giveUp = () => reject(signal.reason);
  signal.addEventListener("abort", giveUp);
  if (signal.aborted) giveUp();
  // If the signal wins, the promise may reject later, when its resources are disposed of.
  promise.catch(() => undefined);
  await Promise.race([promise, aborted]);
}

await runProgram(demonstrate);
