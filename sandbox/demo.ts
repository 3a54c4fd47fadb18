/**
 * `deno task demo`: the real operator between a sandbox homeserver and a sandbox cluster, and a chat with it in the
 * terminal. Where standard input is no terminal, a scripted conversation is played: exit code 0, or 1 if it goes wrong.
 *
 * @module
 */

import { join } from "node:path";
import { KubernetesSandbox, type Rule } from "./kubernetes/mod.ts";
import { Operator, systemEnvironment } from "./operator.ts";
import { listening, readPorts, runProgram } from "./program.ts";
import { playScript } from "./script.ts";
import { chatInTerminal, isTerminal, Stage } from "./stage.ts";

const target = { namespace: "clawdbot", name: "clawdbot" };
/** A pod of it takes so long to become ready, and to end, in milliseconds. */
const durations = { startMs: 2_500, stopMs: 1_000 };
const readyWithinMs = 60_000;

/** What the Role of a deployment permits, extended permissions included. */
const permissions: readonly Rule[] = [
  { ...named("deployments"), verbs: ["get", "watch"] },
  { ...named("deployments/scale"), verbs: ["get", "patch"] },
  { namespace: target.namespace, resources: ["pods"], verbs: ["list"] },
  { namespace: target.namespace, resources: ["events"], verbs: ["create"] },
];

function named(resource: string): Omit<Rule, "verbs"> {
  return { namespace: target.namespace, resources: [resource], resourceNames: [target.name] };
}

async function demonstrate(stop: AbortSignal): Promise<number> {
  const ports = readPorts(["homeserver-port", "kubernetes-port"]);
  await using stage = await Stage.open(ports["homeserver-port"]);
  const port = ports["kubernetes-port"];
  await using kubernetes = await listening(
    "the sandbox Kubernetes API",
    port,
    "kubernetes-port",
    () => KubernetesSandbox.start({ port, ...durations }),
  );
  kubernetes.create(target);
  const kubeconfig = join(stage.folder, "kubeconfig");
  await kubernetes.writeKubeconfig(kubeconfig, kubernetes.token("openclaw-toggle", permissions));

  const begin = performance.now();
  using log = await Deno.open(join(stage.folder, "operator.log"), { create: true, append: true });
  await using operator = await Operator.start({
    environment: {
      ...systemEnvironment(),
      ...stage.environment,
      KUBECONFIG: kubeconfig,
      DEPLOYMENT_NAMESPACE: target.namespace,
      DEPLOYMENT_NAME: target.name,
    },
    print: (line) => void log.writeSync(new TextEncoder().encode(`${line}\n`)),
    folder: stage.folder,
  });
  const end = new AbortController();
  const late = setTimeout(
    () => end.abort(operator.failure(`it is not ready after ${readyWithinMs / 1_000} s`)),
    readyWithinMs,
  );
  operator.ready.then(() => clearTimeout(late), () => undefined);
  operator.ended.then((code) => end.abort(operator.failure(`it ended with code ${code}`)));
  const signal = AbortSignal.any([stop, end.signal]);

  if (isTerminal()) await chat(stage, kubernetes, operator, signal);
  else await orAborted(play(stage, kubernetes, operator, begin), signal);
  return 0;
}

async function chat(
  stage: Stage,
  kubernetes: KubernetesSandbox,
  operator: Operator,
  signal: AbortSignal,
): Promise<void> {
  await chatInTerminal(stage, {
    title: "openclaw-toggle demo",
    ready: operator.ready,
    decorate: (chat) => {
      const show = () => chat.show({ workload: kubernetes.workloads()[0] });
      show();
      return kubernetes.onChange(show);
    },
  }, signal);
  console.log("Ending the operator…");
}

async function play(stage: Stage, kubernetes: KubernetesSandbox, operator: Operator, begin: number): Promise<void> {
  const { homeserver, operatorId } = stage;
  console.log("openclaw-toggle demo: a sandbox homeserver, a sandbox Kubernetes API, and the real operator");
  await using person = await stage.person(stage.personName);
  await using stranger = await stage.person("mallory");
  await operator.ready;
  console.log(`✔ the operator (process ${operator.pid}) is ready after ${seconds(performance.now() - begin)}`);
  const roomId = await person.createRoom([operatorId, stranger.userId]);
  await stranger.until(() => stranger.invitations.has(roomId) || undefined);
  await stranger.join(roomId);
  await person.until(() => person.members(roomId).length === 3 || undefined);
  await playScript({ person, stranger, operatorId, roomId, homeserver, kubernetes });
  console.log(`✔ all as it should be, after ${seconds(performance.now() - begin)}`);
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}

/** The promise's outcome, or the signal's reason if that comes first. */
async function orAborted(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const giveUp = () => reject(signal.reason);
  signal.addEventListener("abort", giveUp);
  if (signal.aborted) giveUp();
  // What is still under way ends with what it stands on.
  promise.catch(() => undefined);
  await Promise.race([promise, aborted]);
}

await runProgram(demonstrate);
