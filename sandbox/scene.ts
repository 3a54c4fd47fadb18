/**
 * The demo's setup: a sandbox homeserver, a sandbox cluster with one Deployment, and the real operator between them.
 *
 * @module
 */

import { join } from "node:path";
import { Agent } from "./agent.ts";
import { KubernetesSandbox, type Rule } from "./kubernetes/mod.ts";
import { Operator, systemEnvironment } from "./operator.ts";
import { listening } from "./program.ts";
import type { Cast } from "./script.ts";
import { Stage } from "./stage.ts";

const target = { namespace: "clawdbot", name: "clawdbot" };
/** Time for a pod to become ready and to stop, in milliseconds. */
const durations = { startMs: 2_500, stopMs: 1_000 };
const readyWithinMs = 60_000;

/** The permissions of the Role in a real deployment, including the extended ones. */
const permissions: readonly Rule[] = [
  { ...named("deployments"), verbs: ["get", "watch"] },
  { ...named("deployments/scale"), verbs: ["get", "patch"] },
  { namespace: target.namespace, resources: ["pods"], verbs: ["list"] },
  { namespace: target.namespace, resources: ["events"], verbs: ["create"] },
];

function named(resource: string): Omit<Rule, "verbs"> {
  return { namespace: target.namespace, resources: [resource], resourceNames: [target.name] };
}

export interface SceneOptions {
  /** Ports of the two servers; 0 for a free one. */
  readonly ports: { readonly homeserver: number; readonly kubernetes: number };
  /** IDLE_STOP: the agent's Deployment is stopped after this time without a message. */
  readonly idleStop: string;
}

/** Servers, operator and agent, until disposed of. */
export class Scene implements AsyncDisposable {
  /** The homeserver with its accounts, and a temporary folder. */
  readonly stage: Stage;
  readonly kubernetes: KubernetesSandbox;
  readonly operator: Operator;
  /** The agent that runs in the Deployment. */
  readonly agent: Agent;
  /** Aborted if the operator becomes unusable, with the reason. */
  readonly broken: AbortSignal;
  readonly #resources: AsyncDisposableStack;

  private constructor(
    parts: Pick<Scene, "agent" | "kubernetes" | "operator" | "stage">,
    resources: AsyncDisposableStack,
  ) {
    ({ stage: this.stage, kubernetes: this.kubernetes, operator: this.operator, agent: this.agent } = parts);
    this.#resources = resources;
    const { operator } = parts;
    const broken = new AbortController();
    this.broken = broken.signal;
    const late = () => broken.abort(operator.failure(`it is not ready after ${readyWithinMs / 1_000} s`));
    const timer = setTimeout(late, readyWithinMs);
    resources.defer(() => clearTimeout(timer));
    // A failure to become ready is reported by its exit.
    operator.ready.then(() => clearTimeout(timer), () => undefined);
    operator.ended.then((code) => broken.abort(operator.failure(`it ended with code ${code}`)));
  }

  /**
   * Sets everything up and starts the operator.
   *
   * @throws Problem if a port is taken or the temporary folder isn't writable
   */
  static async open({ ports, idleStop }: SceneOptions): Promise<Scene> {
    await using resources = new AsyncDisposableStack();
    const stage = resources.use(await Stage.open(ports.homeserver));
    const start = () => KubernetesSandbox.start({ port: ports.kubernetes, ...durations });
    const kubernetes = resources.use(
      await listening("the sandbox Kubernetes API", ports.kubernetes, "kubernetes-port", start),
    );
    kubernetes.create(target);
    const kubeconfig = join(stage.folder, "kubeconfig");
    await kubernetes.writeKubeconfig(kubeconfig, kubernetes.token("openclaw-toggle", permissions));
    const log = resources.use(await Deno.open(join(stage.folder, "operator.log"), { create: true, append: true }));
    const operator = resources.use(
      await Operator.start({
        environment: {
          ...systemEnvironment(),
          ...stage.environment,
          KUBECONFIG: kubeconfig,
          DEPLOYMENT_NAMESPACE: target.namespace,
          DEPLOYMENT_NAME: target.name,
          AGENTS: `@${stage.agentName}:${stage.homeserver.serverName}`,
          IDLE_STOP: idleStop,
        },
        print: (line) => void log.writeSync(new TextEncoder().encode(`${line}\n`)),
        folder: stage.folder,
      }),
    );
    const person = resources.use(await stage.person(stage.agentName));
    const agent = resources.use(new Agent({ person, kubernetes, operatorId: stage.operatorId }));
    return new Scene({ stage, kubernetes, operator, agent }, resources.move());
  }

  /** Brings everybody in the scripted conversation into their encrypted rooms, once the operator is ready. */
  async cast(resources: AsyncDisposableStack): Promise<Cast> {
    const { stage, kubernetes, operator, agent } = this;
    const { homeserver, operatorId } = stage;
    const person = resources.use(await stage.person(stage.personName));
    const stranger = resources.use(await stage.person("mallory"));
    await operator.ready;
    const roomId = await person.createRoom([operatorId, stranger.userId]);
    await stranger.until(() => stranger.invitations.has(roomId) || undefined);
    await stranger.join(roomId);
    await person.until(() => person.members(roomId).length === 3 || undefined);
    const agentRoomId = await person.createRoom([operatorId, agent.userId]);
    await agent.join(agentRoomId);
    await person.until(() => person.members(agentRoomId).length === 3 || undefined);
    return { person, stranger, agent, operatorId, roomId, agentRoomId, homeserver, kubernetes };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#resources.disposeAsync();
  }
}
