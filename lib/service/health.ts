/**
 * Whether the program is alive and ready, from the marks that its parts set. Knows nothing of HTTP.
 *
 * @module
 */

/** Whether all is well, and why. */
export interface HealthStatus {
  /** All is well. */
  readonly ok: boolean;
  /** Why, or why not. */
  readonly reason: string;
}

/** A poll has been answered or given up after 30 s; three times that without an answer is not fresh. */
const freshForMs = 90_000;

/** Without an answer and without a back-off for this long, nothing moves any more. */
const aliveForMs = 180_000;

/** Keeps the marks. It begins as starting; `ready()` and `stopping()` move it on. */
export class Health {
  /** The Kubernetes API has answered the last call that was made to it. */
  kubernetesAnswers = true;
  /** Tells why commands can't be taken although all else is well; undefined if they can. Asked each time. */
  problem: () => string | undefined = () => undefined;
  readonly #now: () => number;
  #phase: "starting" | "ready" | "stopping" = "starting";
  #syncedAtMs: number;
  #aliveUntilMs: number;

  /**
   * Begins as starting, with as much time for the first sync as for any other.
   *
   * @param now monotonic clock in milliseconds
   */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#syncedAtMs = now();
    this.#aliveUntilMs = now() + aliveForMs;
  }

  /** A sync answer was applied. */
  synced(): void {
    this.#syncedAtMs = this.#now();
    this.#aliveUntilMs = this.#syncedAtMs + aliveForMs;
  }

  /** A wait of so many milliseconds begins: that nothing moves meanwhile is intended. */
  backingOff(waitMs: number): void {
    this.#aliveUntilMs = Math.max(this.#aliveUntilMs, this.#now() + waitMs + aliveForMs);
  }

  /** Since the last sync, or the beginning. */
  get syncAgeMs(): number {
    return this.#now() - this.#syncedAtMs;
  }

  /** A start begins: the first, or another after the login has ended. What was known of the last one is over. */
  starting(): void {
    if (this.#phase === "ready") this.#phase = "starting";
    this.kubernetesAnswers = true;
    this.problem = () => undefined;
  }

  /** The start is complete. */
  ready(): void {
    if (this.#phase === "starting") this.#phase = "ready";
  }

  /** The end has begun: there is no way back. */
  stopping(): void {
    this.#phase = "stopping";
  }

  /** Syncing makes progress or backs off: else only a restart helps. */
  alive(): HealthStatus {
    return this.#now() <= this.#aliveUntilMs ? { ok: true, reason: "alive" } : { ok: false, reason: this.#stale() };
  }

  /** Commands are taken now. */
  readiness(): HealthStatus {
    const problem = this.problem();
    if (problem !== undefined && this.#phase !== "stopping") return { ok: false, reason: problem };
    if (this.#phase !== "ready") return { ok: false, reason: this.#phase };
    if (this.syncAgeMs > freshForMs) return { ok: false, reason: this.#stale() };
    if (!this.kubernetesAnswers) return { ok: false, reason: "the Kubernetes API does not answer" };
    return { ok: true, reason: "ready" };
  }

  #stale(): string {
    return `no sync for ${Math.round(this.syncAgeMs / 1_000)} s`;
  }
}
