/**
 * What the operator needs of the cluster: counts to read and to set, and how a target fares. Knows nothing of requests.
 *
 * @module
 */

/** A workload that is switched on and off. */
export interface Target {
  /** The name that people use. */
  readonly alias: string;
  /** What kind of workload it is. */
  readonly kind: "deployment" | "statefulset";
  /** Namespace. */
  readonly namespace: string;
  /** Name. */
  readonly name: string;
}

/** A workload's counts as the cluster tells them. */
export interface Scale {
  /** `spec.replicas`: what is wanted. */
  readonly desired: number;
  /** Pods that exist, by a status that is current. */
  readonly current: number;
  /** Pods that are ready. */
  readonly ready: number;
  /** Pods that are available. */
  readonly available: number;
  /** The status speaks of the present spec (`observedGeneration` has caught up). */
  readonly settled: boolean;
  /** For the PATCH that is to change exactly what was read. */
  readonly resourceVersion: string;
  /** Moves with every change of what is wanted, and with no change of the status (`metadata.generation`). */
  readonly generation: number;
  /** Who last set the count, by the manager of `spec.replicas` in managedFields; undefined where nobody is noted. */
  readonly manager?: string;
}

/** The cluster: reads and sets counts. */
export interface Scaler {
  /**
   * Reads a target.
   *
   * @throws TransientError | PermissionError | NotFoundError
   */
  read(target: Target, signal: AbortSignal): Promise<Scale>;

  /**
   * Sets the count, if the target is still as it was read.
   *
   * @returns the count before, as the API server had it, is what `resourceVersion` stands for
   * @throws ConflictError if it has changed since; TransientError | PermissionError | NotFoundError
   */
  scale(target: Target, replicas: number, resourceVersion: string, signal: AbortSignal): Promise<void>;
}

/**
 * How targets fare over time, for telling people. Everything here may need more permissions than reading and scaling;
 * where one is missing the operator says less, and works all the same.
 */
export interface Rollouts {
  /**
   * Yields a target as it stands now, then after each change, until the signal is aborted. It asks for what it missed
   * where the server ended the watch.
   *
   * @throws PermissionError if watching is not permitted; TransientError | NotFoundError
   */
  watch(target: Target, signal: AbortSignal): AsyncIterable<Scale>;

  /**
   * What keeps a target from being ready, in the cluster's own words; of the present revision's pods only.
   *
   * @throws TransientError | PermissionError | NotFoundError, of reading the target itself
   */
  diagnose(target: Target, signal: AbortSignal): Promise<Diagnosis>;

  /**
   * Writes a Kubernetes Event on a target, so that `kubectl describe` tells what was done and by whom.
   *
   * @throws PermissionError if that is not permitted; TransientError | NotFoundError
   */
  record(target: Target, note: Note, signal: AbortSignal): Promise<void>;
}

/** What stands in the way of a target's readiness. */
export interface Diagnosis {
  /** What is in the way, the most certain first; empty: nothing but time, as far as can be told. */
  readonly obstacles: readonly Obstacle[];
  /** The permission that would tell more, such as `list pods in namespace "clawdbot"`; undefined if it is held. */
  readonly missing: string | undefined;
}

/** One thing that is in the way. */
export interface Obstacle {
  /** What it is about. */
  readonly kind: "image" | "container-config" | "crash" | "out-of-memory" | "unschedulable" | "quota" | "other";
  /** It won't go away by itself, and is told at once; otherwise only when the time limit is over. */
  readonly certain: boolean;
  /** The cluster's word, such as `ImagePullBackOff`. */
  readonly reason: string;
  /** The cluster's sentence, cut to a line; undefined if it gave none. */
  readonly message?: string;
  /** The image that cannot be had. */
  readonly image?: string;
  /** What the container last ended with. */
  readonly exitCode?: number;
  /** How often it has been started anew. */
  readonly restarts?: number;
}

/** What a Kubernetes Event is to say. */
export interface Note {
  /** One word in CamelCase, such as `SwitchedOn`. */
  readonly reason: string;
  /** One sentence; no message text, no secret. */
  readonly message: string;
  /** `Warning` where something failed. */
  readonly type: "Normal" | "Warning";
}
