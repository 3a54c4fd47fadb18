/**
 * In-memory object store with Kubernetes semantics: one counter for resourceVersions, generations, and a change history
 * for watches.
 *
 * @module
 */

/** A Kubernetes object, as far as this sandbox looks into it. */
export interface KubernetesObject {
  /** Such as `Deployment`. */
  kind: string;
  /** Such as `apps/v1`. */
  apiVersion: string;
  // deno-lint-ignore no-explicit-any
  metadata: Record<string, any>;
  /** Desired state. */
  // deno-lint-ignore no-explicit-any
  spec?: Record<string, any>;
  /** Observed state. */
  // deno-lint-ignore no-explicit-any
  status?: Record<string, any>;
}

/** A change, as watches report it. */
export interface Change {
  readonly type: "ADDED" | "MODIFIED" | "DELETED";
  /** Plural name, such as `deployments`. */
  readonly resource: string;
  /** The object after the change. */
  readonly object: KubernetesObject;
}

/** Number of changes to keep for watches that begin in the past. */
const REMEMBERED = 1_000;

/** All objects of a cluster. Copies objects on the way in and out. */
export class ObjectStore {
  readonly #objects = new Map<string, { resource: string; object: KubernetesObject }>();
  readonly #history: Change[] = [];
  /** Oldest resourceVersion that a watch can begin at. */
  #horizon = 0;
  readonly #listeners = new Set<(change: Change) => void>();
  #version = 100;

  /** Latest resourceVersion. */
  get version(): string {
    return String(this.#version);
  }

  /** Returns an object; undefined if there is none. */
  get(resource: string, namespace: string, name: string): KubernetesObject | undefined {
    return structuredClone(this.#objects.get(`${resource}/${namespace}/${name}`)?.object);
  }

  /** Returns the objects of a kind in a namespace, oldest first, optionally filtered. */
  list(resource: string, namespace: string, selects?: (object: KubernetesObject) => boolean): KubernetesObject[] {
    return this.all(resource, (object) => object.metadata.namespace === namespace && (selects?.(object) ?? true));
  }

  /** Like {@linkcode ObjectStore.list}, for all namespaces. */
  all(resource: string, selects: (object: KubernetesObject) => boolean = () => true): KubernetesObject[] {
    const found: KubernetesObject[] = [];
    for (const each of this.#objects.values()) {
      if (each.resource === resource && selects(each.object)) found.push(structuredClone(each.object));
    }
    return found;
  }

  /** Creates or replaces an object and returns the result. A write that changes nothing has no effect. */
  put(resource: string, object: KubernetesObject): KubernetesObject {
    const next = structuredClone(object);
    const key = `${resource}/${next.metadata.namespace}/${next.metadata.name}`;
    const before = this.#objects.get(key)?.object;
    if (before === undefined) {
      Object.assign(next.metadata, { uid: crypto.randomUUID(), creationTimestamp: now() });
      if (next.spec !== undefined) next.metadata.generation = 1;
    } else {
      next.metadata.resourceVersion = before.metadata.resourceVersion;
      if (same(before, next)) return next;
      if (!same(before.spec, next.spec)) next.metadata.generation = before.metadata.generation + 1;
    }
    next.metadata.resourceVersion = String(++this.#version);
    this.#objects.set(key, { resource, object: next });
    this.#tell({ type: before === undefined ? "ADDED" : "MODIFIED", resource, object: next });
    return structuredClone(next);
  }

  /** Removes an object if it exists. */
  remove(resource: string, object: KubernetesObject): void {
    const key = `${resource}/${object.metadata.namespace}/${object.metadata.name}`;
    const last = this.#objects.get(key)?.object;
    if (last === undefined) return;
    this.#objects.delete(key);
    const metadata = { ...last.metadata, resourceVersion: String(++this.#version) };
    this.#tell({ type: "DELETED", resource, object: { ...last, metadata } });
  }

  /** Returns the changes after a resourceVersion, oldest first; undefined if they are no longer kept. */
  since(version: number): Change[] | undefined {
    if (version < this.#horizon) return undefined;
    return this.#history.filter((change) => versionOf(change) > version);
  }

  /** Deletes the change history. */
  forget(): void {
    this.#history.length = 0;
    this.#horizon = this.#version;
  }

  /** Calls a listener with every change, until disposed of. */
  listen(listener: (change: Change) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  #tell(change: Change): void {
    this.#history.push(change);
    if (this.#history.length > REMEMBERED) this.#horizon = versionOf(this.#history.shift() ?? change);
    for (const listener of [...this.#listeners]) listener(change);
  }
}

/** Returns the current time, in seconds, in the format of Kubernetes. */
export function now(): string {
  return new Date().toISOString().replace(/\.\d+Z$/, "Z");
}

/** Applies a merge patch (RFC 7386). */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isRecord(patch)) return patch;
  const merged: Record<string, unknown> = isRecord(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete merged[key];
    else merged[key] = mergePatch(merged[key], value);
  }
  return merged;
}

/** Whether a value is a JSON object. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Whether two values are equal as JSON, regardless of the order of fields. */
function same(one: unknown, other: unknown): boolean {
  const sorted = (_: string, value: unknown) =>
    isRecord(value) ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => a < b ? -1 : 1)) : value;
  return JSON.stringify(one, sorted) === JSON.stringify(other, sorted);
}

function versionOf(change: Change): number {
  return Number(change.object.metadata.resourceVersion);
}
