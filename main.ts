/**
 * The program: arguments, environment, signals and exit codes; builds the parts and joins them.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { Backoff, operatorPolicy, retry, sleep, systemClock, waitAfter } from "./lib/async.ts";
import project from "./deno.json" with { type: "json" };
import {
  type Config,
  encodeRecoveryKey,
  type Purpose,
  readArguments,
  readConfig,
  type Target,
  usage,
} from "./lib/config/mod.ts";
import { ConfigError, TokenRefused, TransientError } from "./lib/errors.ts";
import { Operator } from "./lib/operator/mod.ts";
import { KubernetesApi, KubernetesScaler, openCluster, placesIn, serverVersion } from "./lib/scaler/mod.ts";
import {
  every,
  Health,
  hourly,
  Metrics,
  type Pace,
  paceOf,
  serveHealth,
  Shutdown,
  startLogging,
  uncounted,
} from "./lib/service/mod.ts";
import { findHomeserver, openSession } from "./lib/session/mod.ts";
import { openStore } from "./lib/store/mod.ts";
import { retireOldStore, setOldStoreAside, takeOver } from "./lib/takeover/mod.ts";

const log = getLogger(["openclaw-toggle", "main"]);
/** How long the effect in hand may take to end, milliseconds. */
const GRACE_MS = 5_000;
/** How long the Python operator, whose place we take, may still be there, milliseconds: a pod's grace, and some. */
const PREDECESSOR_MS = 60_000;
/** How long after one that was not answered the Kubernetes API is called again, milliseconds. */
const PROBE_MS = 30_000;

async function main(args: readonly string[]): Promise<number> {
  try {
    const purpose = readArguments(args);
    switch (purpose) {
      case "help":
        return say(usage(project.version));
      case "version":
        return say(project.version);
      case "new-recovery-key":
        return say(encodeRecoveryKey(crypto.getRandomValues(new Uint8Array(32))));
      case "conntest":
        return await (await import("./conntest.ts")).connectionTest();
    }
    const env = Deno.env.toObject();
    const config = readConfig(env, {
      inCluster: env["KUBERNETES_SERVICE_HOST"] !== undefined,
      terminal: Deno.stderr.isTerminal(),
      readFile: Deno.readTextFileSync,
    });
    return await runOperator(config, env, purpose);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    for (const problem of error.problems) console.error(problem);
    return 2;
  }
}

function say(text: string): number {
  console.log(text);
  return 0;
}

/** Runs until a signal or a failure ends it; never throws. */
async function runOperator(config: Config, env: Readonly<Record<string, string>>, purpose: Purpose): Promise<number> {
  addEventListener("error", (event) => endAtOnce(event.error));
  addEventListener("unhandledrejection", (event) => endAtOnce(event.reason));
  await startLogging({
    level: config.logLevel,
    format: config.logFormat,
    colour: Deno.stderr.isTerminal() && env["NO_COLOR"] === undefined,
    write: (line) => console.error(line),
  });
  for (const warning of config.warnings) log.warn("{warning}", { warning });
  using shutdown = new Shutdown({
    onSignal: (name, handler) => {
      Deno.addSignalListener(name, handler);
      return () => Deno.removeSignalListener(name, handler);
    },
    exit: (code, reason) => {
      log.error("{reason}", { reason });
      Deno.exit(code);
    },
    now: () => performance.now(),
  });
  try {
    await retry((_, working) => operate(config, env, purpose, working, shutdown.stopping).catch(loggedOut), {
      backoff: new Backoff(operatorPolicy(config.maxRetries)),
      onRetry: ({ message }, waitMs) => {
        log.warn("{reason}; starting over in {wait} s", { reason: message, wait: Math.ceil(waitMs / 1_000) });
      },
    }, shutdown.stopping);
  } catch (error) {
    if (!shutdown.stopping.aborted || error !== shutdown.stopping.reason) {
      log.error("{reason}", { reason: error instanceof Error ? error.message : String(error), error });
      return error instanceof ConfigError ? 2 : 1;
    }
  }
  log.info("Bye.");
  return 0;
}

/** A login that ends while we run is made anew by starting over; everything else ends the program. */
function loggedOut(error: unknown): never {
  if (error instanceof TokenRefused) throw new TransientError(error.message, { cause: error });
  throw error instanceof TransientError ? new Error(error.message, { cause: error }) : error;
}

/**
 * What nobody has caught ends the program at once, and nothing more is written: so does a panic of the Rust crypto, which
 * fails no promise.
 */
function endAtOnce(error: unknown): never {
  log.fatal("{reason}; nothing more is written", { reason: String(error), error });
  Deno.exit(1);
}

/**
 * Builds the parts in the order in which they depend on each other; they are closed in the opposite order.
 *
 * @param working told when all goes well: a login that ends days later is no failure in a row
 */
async function operate(
  config: Config,
  env: Readonly<Record<string, string>>,
  purpose: Purpose,
  working: () => void,
  stopping: AbortSignal,
): Promise<void> {
  const health = new Health();
  const { httpAddress } = config;
  const metrics = httpAddress && await Metrics.open(project.version, () => health.syncAgeMs);
  const observer = metrics ?? uncounted;
  await using server = httpAddress && metrics && await serveHealth(httpAddress, health, metrics);
  if (server !== undefined) log.info("listening on port {port}", { port: server.port });
  using cluster = await openCluster(placesIn(env), stopping);
  const policy = operatorPolicy(config.maxRetries);
  await using store = await openStore({
    folder: config.storePath,
    key: config.storeKey?.reveal(),
    holder: { host: Deno.hostname(), pid: Deno.pid },
  });
  await store.openCrypto();
  const waiting = (waitMs: number): void => {
    health.backingOff(waitMs);
    observer.retried();
  };
  const patiently = <Value>(work: (signal: AbortSignal) => Promise<Value>): Promise<Value> =>
    retry(work, {
      backoff: new Backoff(policy),
      onRetry: (error, waitMs) => {
        waiting(waitMs);
        log.warn("{reason}; trying again in {wait} s", { reason: error.message, wait: Math.ceil(waitMs / 1_000) });
      },
    }, stopping);
  const allowedUsers = new Set(config.allowedUsers);
  const known = store.account.load()?.homeserver;
  const homeserver = await patiently((signal) => findHomeserver(config.homeserver, signal, known));
  if (purpose === "fresh-device") setOldStoreAside(config.storePath);
  await takeOver({ store, folder: config.storePath, homeserver, user: config.user });
  using session = await openSession({
    homeserver,
    login: config.login,
    store,
    allowedUsers,
    onlySignedDevices: config.senderTrust === "cross-signed",
    now: Date.now,
    retry: patiently,
    onWait: waiting,
  }, stopping);
  const allowedRooms = await patiently((signal) => session.roomIds(config.allowedRooms, signal));

  const api = new KubernetesApi(cluster, { onOutcome: (answered) => (health.kubernetesAnswers = answered) });
  const scaler = new KubernetesScaler(api);
  await using operator = new Operator({
    chat: session,
    scaler,
    rollouts: scaler,
    journal: store.journal,
    memory: store.memory,
    transaction: (calls) => store.transaction(calls),
    pins: store.pins,
    settings: {
      allowedUsers,
      allowedRooms,
      targets: config.targets,
      echo: config.echo,
      requireEncryption: config.requireEncryption,
      senderTrust: config.senderTrust,
      trustedIdentities: new Map(config.trustedIdentities),
      maxCommandAgeMs: config.maxCommandAgeMs,
      startTimeoutMs: config.startTimeoutMs,
      startReplicas: config.startReplicas,
      autoStopMs: config.autoStopMs,
    },
    clock: systemClock,
    waitAfter: (failures, retryAfterMs) => {
      observer.retried();
      return waitAfter(policy, failures, retryAfterMs);
    },
    newBackoff: (changes) => new Backoff({ ...policy, mostFailures: Infinity, ...changes }),
    observer,
  });

  const tidyUp = hourly(() => store.journal.prune());
  const retire = hourly(() => retireOldStore(store, config.storePath), PREDECESSOR_MS);
  const firstSync = Promise.withResolvers<void>();
  const ending = new AbortController();
  const synced = (): void => {
    health.synced();
    working();
    tidyUp();
    retire();
    firstSync.resolve();
  };
  const pace = (): Pace => paceOf(policy, waiting);
  const syncing = session.run(operator, synced, pace, AbortSignal.any([stopping, ending.signal]));
  await using end = new AsyncDisposableStack();
  // The crypto is not to be closed while it works. Of a failure others have been told.
  end.defer(() => Promise.race([syncing.catch(() => undefined), graceOver(ending.signal)]));
  end.defer(() => ending.abort(new DOMException("the operator has ended", "AbortError")));
  const broken = Promise.race([
    syncing,
    store.failed.then((error) => Promise.reject(error)),
  ]).catch((error) => ended(error, stopping));
  stopping.addEventListener("abort", () => health.stopping());
  await Promise.race([firstSync.promise, broken, aborted(stopping)]);
  stopping.throwIfAborted();
  const identify = async (reset: boolean): Promise<void> => {
    await patiently((signal) => session.ensureIdentity(config.recoveryKey?.reveal(), reset, signal));
  };
  if (purpose === "reset-identity") return await identify(true);
  const getReady = async (): Promise<void> => {
    await Promise.all([identify(false), ...config.targets.map((target) => checkTarget(scaler, target, stopping))]);
    health.ready();
    log.info("Ready: {user} takes commands for {targets}", {
      user: session.self,
      targets: config.targets.map(({ alias }) => alias).join(", "),
    });
  };
  const probe = async (): Promise<void> => {
    // What comes of it, health is told.
    if (!health.kubernetesAnswers) await serverVersion(api, stopping).catch(() => stopping.throwIfAborted());
  };
  await Promise.race([
    operator.run(stopping),
    getReady().then(() => new Promise<never>(() => {})).catch((error) => ended(error, stopping)),
    broken,
    every(PROBE_MS, probe, stopping).catch((error) => ended(error, stopping)),
    graceOver(stopping),
  ]).catch((error) => error instanceof WebAssembly.RuntimeError ? endAtOnce(error) : Promise.reject(error));
}

/** A target that cannot be read is worth a warning with its cure, not an end: it may be there tomorrow. */
async function checkTarget(scaler: KubernetesScaler, target: Target, signal: AbortSignal): Promise<void> {
  try {
    const { desired, ready } = await scaler.read(target, signal);
    log.info("{target}: {ready}/{desired} ready", { target: target.alias, ready, desired });
  } catch (error) {
    signal.throwIfAborted();
    const reason = error instanceof Error ? error.message : String(error);
    log.warn("{reason}; see TARGETS or DEPLOYMENT_NAME, and the Role", { reason });
  }
}

/** What ends because of the stop is no failure; the operator's own end is what counts then. */
function ended(error: unknown, stopping: AbortSignal): Promise<never> {
  return stopping.aborted ? new Promise<never>(() => {}) : Promise.reject(error);
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => signal.aborted ? resolve() : signal.addEventListener("abort", () => resolve()));
}

async function graceOver(stopping: AbortSignal): Promise<void> {
  await aborted(stopping);
  await sleep(GRACE_MS, new AbortController().signal);
}

Deno.exit(await main(Deno.args));
