/**
 * What a cluster has recorded: Events, and the requests in the API server's audit log.
 *
 * @module
 */

import type { ControlPlane } from "./cluster.ts";
import { eventually } from "./namespaces.ts";
import { HttpError } from "./network.ts";

/** The fields of an Event that tests look at (Kubernetes API, core/v1). */
export interface ClusterEvent {
  /** `Normal` or `Warning`. */
  readonly type: string;
  /** One word. */
  readonly reason: string;
  /** One sentence. */
  readonly message: string;
  /** Time in RFC 3339. */
  readonly eventTime: string;
}

/** An answered write to a scale. */
export interface ScaleWrite {
  /** User name, such as `system:serviceaccount:namespace:name`. */
  readonly user: string;
  /** HTTP status. */
  readonly status: number;
  /** Requested replicas. */
  readonly replicas: number;
}

/** Reads a cluster's records. */
export class ClusterRecords {
  readonly #plane: ControlPlane;

  constructor(plane: ControlPlane) {
    this.#plane = plane;
  }

  /** Events on an object written by one component, oldest first. */
  async #events(namespace: string, name: string, component: string): Promise<readonly ClusterEvent[]> {
    const about = `involvedObject.name%3D${name}`;
    const { items } = await this.#plane.request("GET", `/api/v1/namespaces/${namespace}/events?fieldSelector=${about}`);
    const own: ClusterEvent[] = items.filter(({ source }: { source?: { component?: string } }) =>
      source?.component === component
    );
    return own.sort((one, other) => one.eventTime < other.eventTime ? -1 : 1);
  }

  /** Waits until the latest of these Events has the given reason. Events are written asynchronously. */
  async untilEvent(namespace: string, name: string, component: string, reason: string): Promise<ClusterEvent> {
    return await eventually(async () => {
      const latest = (await this.#events(namespace, name, component)).at(-1);
      if (latest?.reason === reason) return latest;
      throw new HttpError(`the latest Event on ${name} is for ${latest?.reason}, not ${reason}`, 404, "");
    });
  }

  /** Writes to a Deployment's scale, oldest first; undefined on an existing cluster. */
  async scaleWrites(namespace: string, name: string): Promise<ScaleWrite[] | undefined> {
    const entries = await this.#audited();
    return entries?.filter(({ objectRef, verb }) =>
      objectRef.namespace === namespace && objectRef.name === name && objectRef.subresource === "scale" &&
      verb !== "get"
    ).map(({ user, responseStatus, requestObject }) => ({
      user: user.username,
      status: responseStatus.code,
      replicas: requestObject.spec.replicas,
    }));
  }

  /**
   * How many requests a ServiceAccount has made about workloads, pods and Events, refused ones among them; undefined on
   * an existing cluster. A watch counts once.
   */
  async requestsOf(namespace: string, account: string): Promise<number | undefined> {
    const name = `system:serviceaccount:${namespace}:${account}`;
    const entries = (await this.#audited())?.filter(({ user }) => user.username === name);
    return entries && new Set(entries.map(({ auditID }) => auditID)).size;
  }

  // deno-lint-ignore no-explicit-any -- entries of the API server's own log (audit.k8s.io/v1 Event)
  async #audited(): Promise<any[] | undefined> {
    if (!this.#plane.auditLog) return undefined;
    const log = await Deno.readTextFile(this.#plane.auditLog);
    // The last line may be half written.
    return log.split("\n").slice(0, -1).map((line) => JSON.parse(line));
  }
}
