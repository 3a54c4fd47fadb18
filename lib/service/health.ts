/**
 * Liveness and readiness, from events that the program's parts report.
 *
 * @module
 */

/** A health status and its reason. */
export interface HealthStatus {
  /** Whether it is healthy. */
  readonly ok: boolean;
  /** Why, or why not. */
  readonly reason: string;
}

/**
 * Three times 30 s, within which each sync request is answered or given up. Without an answer for longer we aren't
 * ready.
 */
const freshForMs = 90_000;

/** Without an answer or a back-off for this long, the sync loop is stuck. */
const aliveForMs = 180_000;

/** Tracks the program's health, through the phases starting, ready and stopping. */
export class Health {
  /** Whether the Kubernetes API answered the last request. */
  kubernetesAnswers = true;
  /**
   * Returns why commands can't be taken although everything else works; undefined if they can. Called on each probe.
   */
  problem: () => string | undefined = () => undefined;
  readonly #now: () => number;
  #phase: "starting" | "ready" | "stopping" = "starting";
  #syncedAtMs: number;
  #aliveUntilMs: number;

  /**
   * Starts in the starting phase. The first sync gets as much time as any other.
   *
   * @param now monotonic clock in milliseconds
   */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#syncedAtMs = now();
    this.#aliveUntilMs = now() + aliveForMs;
  }

  /** Reports that a sync response was applied. */
  synced(): void {
    this.#syncedAtMs = this.#now();
    this.#aliveUntilMs = this.#syncedAtMs + aliveForMs;
  }

  /** Reports that a wait of this many milliseconds begins, during which no progress is expected. */
  backingOff(waitMs: number): void {
    this.#aliveUntilMs = Math.max(this.#aliveUntilMs, this.#now() + waitMs + aliveForMs);
  }

  /** Milliseconds since the last sync, or since the start if there was none. */
  get syncAgeMs(): number {
    return this.#now() - this.#syncedAtMs;
  }

  /** Reports that a start begins: the first one, or another after the login has ended. Resets all reported problems. */
  starting(): void {
    if (this.#phase === "ready") this.#phase = "starting";
    this.kubernetesAnswers = true;
    this.problem = () => undefined;
  }

  /** Reports that the start is complete. */
  ready(): void {
    if (this.#phase === "starting") this.#phase = "ready";
  }

  /** Reports that shutdown has begun. This phase is final. */
  stopping(): void {
    this.#phase = "stopping";
  }

  /** Liveness: syncing makes progress or backs off. If it doesn't, only a restart helps. */
  alive(): HealthStatus {
    return this.#now() <= this.#aliveUntilMs ? { ok: true, reason: "alive" } : { ok: false, reason: this.#stale() };
  }

  /** Readiness: commands are taken now. */
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
