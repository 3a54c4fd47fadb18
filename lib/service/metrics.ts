/**
 * What Prometheus is told. The table below is all there is to say about the metrics: their making, the README's
 * table and the check of the dashboard come from it. prom-client is loaded only where metrics are served.
 *
 * @module
 */

import type { Counter, Gauge, Histogram, Registry } from "prom-client";

/** A metric. */
export interface Metric {
  /** Name, by Prometheus' conventions. */
  readonly name: string;
  /** What it is. */
  readonly kind: "counter" | "gauge" | "histogram";
  /** What it tells. */
  readonly help: string;
  /** Names of its labels. */
  readonly labels: readonly string[];
  /** Upper bounds of a histogram, seconds. */
  readonly buckets?: readonly number[];
}

const prefix = "openclaw_toggle";

/** The table. */
export const METRICS = {
  commands: {
    name: `${prefix}_commands_total`,
    kind: "counter",
    help: "Commands that were dealt with.",
    labels: ["command", "outcome"],
  },
  refusals: {
    name: `${prefix}_refusals_total`,
    kind: "counter",
    help: "Messages, invitations and verifications that were refused.",
    labels: ["reason"],
  },
  undecryptable: {
    name: `${prefix}_undecryptable_messages_total`,
    kind: "counter",
    help: "Messages of allowed users that could not be decrypted when they came.",
    labels: [],
  },
  retries: {
    name: `${prefix}_retries_total`,
    kind: "counter",
    help: "Waits before another try, after a failure of the homeserver or the Kubernetes API.",
    labels: [],
  },
  syncAge: {
    name: `${prefix}_sync_age_seconds`,
    kind: "gauge",
    help: "Time since the homeserver last answered a sync.",
    labels: [],
  },
  scaleDuration: {
    name: `${prefix}_scale_duration_seconds`,
    kind: "histogram",
    help: "How long the cluster took to accept a change of a target's count.",
    labels: ["target"],
    buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
  },
  readyDuration: {
    name: `${prefix}_ready_duration_seconds`,
    kind: "histogram",
    help: "How long a target took from a start by chat until it was ready.",
    labels: ["target"],
    buckets: [1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600],
  },
  wakeUps: {
    name: `${prefix}_wake_ups_total`,
    kind: "counter",
    help: "Starts of a target that was off, by cause: chat, schedule or message.",
    labels: ["target", "cause"],
  },
  awake: {
    name: `${prefix}_awake_seconds_total`,
    kind: "counter",
    help: "Time that a target was on while the operator ran, by its wanted replicas.",
    labels: ["target"],
  },
  replicas: {
    name: `${prefix}_replicas`,
    kind: "gauge",
    help: "Replicas of a target as they were last seen, desired or ready.",
    labels: ["target", "state"],
  },
  buildInfo: {
    name: `${prefix}_build_info`,
    kind: "gauge",
    help: "Always 1; tells what runs.",
    labels: ["version", "deno"],
  },
} as const satisfies Readonly<Record<string, Metric>>;

/** Counts and measures. It is what the operator calls its observer. */
export class Metrics {
  /** Media type of the text. */
  readonly contentType: string;
  readonly #registry: Registry;
  readonly #nowMs: () => number;
  /** Targets that are on, and up to when that has been counted. */
  readonly #awakeSinceMs = new Map<string, number>();

  private constructor(registry: Registry, nowMs: () => number) {
    this.#registry = registry;
    this.#nowMs = nowMs;
    this.contentType = registry.contentType;
  }

  /** Loads prom-client; `syncAgeMs` is asked each time that the metrics are. `nowMs` is a clock that nobody sets. */
  static async open(
    version: string,
    syncAgeMs: () => number,
    nowMs: () => number = () => performance.now(),
  ): Promise<Metrics> {
    // By its default export: in the bundle it has no other.
    const { Counter, Gauge, Histogram, Registry } = (await import("prom-client")).default;
    const registry = new Registry();
    for (const { name, kind, help, labels, ...rest } of Object.values<Metric>(METRICS)) {
      const options = { name, help, labelNames: [...labels], registers: [registry] };
      if (kind === "counter") new Counter(options);
      else if (kind === "histogram") new Histogram({ ...options, buckets: [...rest.buckets ?? []] });
      else if (name !== METRICS.syncAge.name) new Gauge(options);
      else {
        new Gauge({
          ...options,
          collect() {
            this.set(syncAgeMs() / 1_000);
          },
        });
      }
    }
    const metrics = new Metrics(registry, nowMs);
    metrics.#of<Gauge>("buildInfo").set({ version, deno: Deno.version.deno }, 1);
    return metrics;
  }

  /** Something was refused. */
  refused(reason: string): void {
    this.#of<Counter>("refusals").inc({ reason });
  }

  /** A command has been dealt with. */
  commanded({ command, outcome }: { readonly command: string; readonly outcome: string }): void {
    this.#of<Counter>("commands").inc({ command, outcome });
  }

  /** An allowed user's message could not be decrypted at first. */
  undecryptable(): void {
    this.#of<Counter>("undecryptable").inc();
  }

  /** Something failed and will be tried again. */
  retried(): void {
    this.#of<Counter>("retries").inc();
  }

  /** A target's count was changed; so long the cluster took to accept it, milliseconds. */
  scaled(target: string, ms: number): void {
    this.#of<Histogram>("scaleDuration").observe({ target }, ms / 1_000);
  }

  /** A target became ready, so long after its count was changed by a command, milliseconds. */
  ready(target: string, ms: number): void {
    this.#of<Histogram>("readyDuration").observe({ target }, ms / 1_000);
  }

  /** A target that was off was started. */
  wokeUp(target: string, cause: string): void {
    this.#of<Counter>("wakeUps").inc({ target, cause });
  }

  /** A target's replicas as they were last seen. */
  replicas(target: string, { desired, ready }: { readonly desired: number; readonly ready: number }): void {
    this.#countAwake(target);
    if (desired > 0) this.#awakeSinceMs.set(target, this.#nowMs());
    else this.#awakeSinceMs.delete(target);
    this.#of<Counter>("awake").inc({ target }, 0);
    this.#of<Gauge>("replicas").set({ target, state: "desired" }, desired);
    this.#of<Gauge>("replicas").set({ target, state: "ready" }, ready);
  }

  /** Everything in Prometheus' text format. */
  text(): Promise<string> {
    for (const target of this.#awakeSinceMs.keys()) this.#countAwake(target);
    return this.#registry.metrics();
  }

  /** Up to now. */
  #countAwake(target: string): void {
    const sinceMs = this.#awakeSinceMs.get(target);
    if (sinceMs === undefined) return;
    const nowMs = this.#nowMs();
    this.#of<Counter>("awake").inc({ target }, (nowMs - sinceMs) / 1_000);
    this.#awakeSinceMs.set(target, nowMs);
  }

  #of<Kind extends Counter | Gauge | Histogram>(key: keyof typeof METRICS): Kind {
    return this.#registry.getSingleMetric(METRICS[key].name) as Kind;
  }
}

/** Nobody counts where nobody asks. */
export const noMetrics: Omit<Metrics, "contentType" | "text"> = {
  refused: () => {},
  commanded: () => {},
  undecryptable: () => {},
  retried: () => {},
  scaled: () => {},
  ready: () => {},
  wokeUp: () => {},
  replicas: () => {},
};
