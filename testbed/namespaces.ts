/**
 * Namespaces that tests create in a cluster. On an existing cluster, disposing deletes them.
 *
 * @module
 */

import type { ControlPlane } from "./cluster.ts";
import { HttpError } from "./network.ts";

/** Creates namespaces, each once. */
export class Namespaces implements AsyncDisposable {
  readonly #plane: ControlPlane;
  readonly #names = new Set<string>();

  constructor(plane: ControlPlane) {
    this.#plane = plane;
  }

  /** Creates a namespace, unless it was created before, and waits until pods can run in it. */
  async create(name: string): Promise<void> {
    if (this.#names.has(name)) return;
    await this.#plane.request("POST", "/api/v1/namespaces", { metadata: { name } });
    this.#names.add(name);
    // Pods are refused until the namespace has its default ServiceAccount.
    await eventually(() => this.#plane.request("GET", `/api/v1/namespaces/${name}/serviceaccounts/default`));
  }

  /** Deletes what was created on an existing cluster. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#plane.auditLog) return;
    for (const name of this.#names) await this.#plane.request("DELETE", `/api/v1/namespaces/${name}`);
  }
}

/** Repeats a request that the API server may not be able to answer yet. */
export async function eventually<Result>(request: () => Promise<Result>): Promise<Result> {
  const deadline = performance.now() + 10_000;
  for (;;) {
    try {
      return await request();
    } catch (error) {
      if (!(error instanceof HttpError) || performance.now() > deadline) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
