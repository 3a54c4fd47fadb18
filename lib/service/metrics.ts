/**
 * Prometheus metrics. The table below is the only definition: the metrics, the table in the docs and the check of the
 * dashboard are derived from it. prom-client is loaded only if metrics are served.
 *
 * @module
 */

import type { Counter, Gauge, Histogram, Registry } from "prom-client";

/** Definition of a metric. */
export interface Metric {
  /** Name, by Prometheus' naming conventions. */
  readonly name: string;
  /** Type of the metric. */
  readonly kind: "counter" | "gauge" | "histogram";
  /** Help text. */
  readonly help: string;
  /** Label names. */
  readonly labels: readonly string[];
  /** Upper bounds of a histogram's buckets, in seconds. */
  readonly buckets?: readonly number[];
}

const prefix = "openclaw_toggle";

/** All metrics. */
export const METRICS = {
  commands: {
    name: `${prefix}_commands_total`,
    kind: "counter",
    help: "Commands handled; `wake`: messages to an agent that was off.",
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
    help: "Messages of allowed users that could not be decrypted on arrival.",
    labels: [],
  },
  retries: {
    name: `${prefix}_retries_total`,
    kind: "counter",
    help: "Retries after a failure of the homeserver or the Kubernetes API.",
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
    help: "Time that the cluster took to accept a change of a target's replica count.",
    labels: ["target"],
    buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
  },
  readyDuration: {
    name: `${prefix}_ready_duration_seconds`,
    kind: "histogram",
    help: "Time from a start by chat until the target was ready.",
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
  wakeDuration: {
    name: `${prefix}_wake_duration_seconds`,
    kind: "histogram",
    help: "How long a target took from a message to its agent until it was ready.",
    labels: ["target"],
    buckets: [1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600],
  },
  replicas: {
    name: `${prefix}_replicas`,
    kind: "gauge",
    help: "Replicas of a target as last seen, desired or ready.",
    labels: ["target", "state"],
  },
  buildInfo: {
    name: `${prefix}_build_info`,
    kind: "gauge",
    help: "Always 1; the labels show what is running.",
    labels: ["version", "deno"],
  },
} as const satisfies Readonly<Record<string, Metric>>;

/** Records metrics. Implements the operator's observer. */
export class Metrics {
  /** Content type of the exposition format. */
  readonly contentType: string;
  readonly #registry: Registry;
  readonly #nowMs: () => number;
  /** Targets that are on, and the time up to which they have been counted. */
  readonly #awakeSinceMs = new Map<string, number>();

  private constructor(registry: Registry, nowMs: () => number) {
    this.#registry = registry;
    this.#nowMs = nowMs;
    this.contentType = registry.contentType;
  }

  /** Loads prom-client. `syncAgeMs` is called on each scrape; `nowMs` is a monotonic clock. */
  static async open(
    version: string,
    syncAgeMs: () => number,
    nowMs: () => number = () => performance.now(),
  ): Promise<Metrics> {
    // The bundle has only prom-client's default export.
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

  /** Counts a refusal. */
  refused(reason: string): void {
    this.#of<Counter>("refusals").inc({ reason });
  }

  /** Counts a handled command. */
  commanded({ command, outcome }: { readonly command: string; readonly outcome: string }): void {
    this.#of<Counter>("commands").inc({ command, outcome });
  }

  /** Counts a message of an allowed user that couldn't be decrypted at first. */
  undecryptable(): void {
    this.#of<Counter>("undecryptable").inc();
  }

  /** Counts a failure that will be retried. */
  retried(): void {
    this.#of<Counter>("retries").inc();
  }

  /** Observes how long the cluster took to accept a change of a target's replica count, in milliseconds. */
  scaled(target: string, ms: number): void {
    this.#of<Histogram>("scaleDuration").observe({ target }, ms / 1_000);
  }

  /** Observes the time from a command's change of the replica count until the target was ready, in milliseconds. */
  ready(target: string, ms: number): void {
    this.#of<Histogram>("readyDuration").observe({ target }, ms / 1_000);
  }

  /** Counts a start of a target that was off. */
  wokeUp(target: string, cause: string): void {
    this.#of<Counter>("wakeUps").inc({ target, cause });
  }

  /** Observes the time from a message that woke a target until it was ready, in milliseconds. */
  woken(target: string, ms: number): void {
    this.#of<Histogram>("wakeDuration").observe({ target }, ms / 1_000);
  }

  /** Sets a target's replica counts, as last seen. */
  replicas(target: string, { desired, ready }: { readonly desired: number; readonly ready: number }): void {
    this.#countAwake(target);
    if (desired > 0) this.#awakeSinceMs.set(target, this.#nowMs());
    else this.#awakeSinceMs.delete(target);
    this.#of<Counter>("awake").inc({ target }, 0);
    this.#of<Gauge>("replicas").set({ target, state: "desired" }, desired);
    this.#of<Gauge>("replicas").set({ target, state: "ready" }, ready);
  }

  /** All metrics in Prometheus' text format. */
  text(): Promise<string> {
    for (const target of this.#awakeSinceMs.keys()) this.#countAwake(target);
    return this.#registry.metrics();
  }

  /** Counts the time since the target was last counted. */
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

/** Used if metrics aren't served. */
export const noMetrics: Omit<Metrics, "contentType" | "text"> = {
  refused: () => {},
  commanded: () => {},
  undecryptable: () => {},
  retried: () => {},
  scaled: () => {},
  ready: () => {},
  wokeUp: () => {},
  woken: () => {},
  replicas: () => {},
};
