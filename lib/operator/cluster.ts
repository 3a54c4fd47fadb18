/**
 * What the operator needs of the cluster: counts to read and to set, and how a target fares. Knows nothing of requests.
 *
 * @module
 */

import type { Target } from "../config/mod.ts";
import type { Diagnosis, KubernetesEvent, Scale } from "../scaler/mod.ts";

export type { Diagnosis, Scale, Target };

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
  record(target: Target, event: KubernetesEvent, signal: AbortSignal): Promise<void>;
}
