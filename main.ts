/**
 * Entry point: arguments, environment, signals, exit codes, and composition of the program's parts.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { Backoff, operatorPolicy, retry, systemClock } from "./lib/async.ts";
import project from "./deno.json" with { type: "json" };
import { type Config, encodeRecoveryKey, type Purpose, readArguments, readConfig, usage } from "./lib/config/mod.ts";
import { ConfigError, errorMessage, TokenRefused } from "./lib/errors.ts";
import { healthcheck, rotateRecoveryKey, rotateStoreKey } from "./lib/maintenance/mod.ts";
import { Operator } from "./lib/operator/mod.ts";
import { clusterEnvironment, KubernetesApi, KubernetesScaler, openCluster, serverVersion } from "./lib/scaler/mod.ts";
import {
  becomeReady,
  every,
  Health,
  hourly,
  Lifetime,
  Metrics,
  noMetrics,
  serveHealth,
  Shutdown,
  startLogging,
} from "./lib/service/mod.ts";
import { findHomeserver, loadCrypto, openSession, type OpenSessionOptions } from "./lib/session/mod.ts";
import { openStore } from "./lib/store/mod.ts";
import { retireOldStore, setOldStoreAside, takeOver } from "./lib/takeover/mod.ts";

const log = getLogger(["openclaw-toggle", "main"]);
/** How long the Python operator that we replace may still run, in milliseconds: a pod's grace period and a margin. */
const PREDECESSOR_MS = 60_000;
/** Interval at which the Kubernetes API is probed after a request without an answer, in milliseconds. */
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
    if (purpose === "healthcheck") return await healthcheck(config, console);
    if (purpose === "rotate-recovery-key") return await rotateRecoveryKey(config, console);
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

/** Runs until a signal or a failure ends it. Never throws. */
async function runOperator(config: Config, env: Readonly<Record<string, string>>, purpose: Purpose): Promise<number> {
  addEventListener("error", (event) => endAtOnce(event.error));
  addEventListener("unhandledrejection", (event) => endAtOnce(event.reason));
  await startLogging({
    level: config.logLevel,
    format: config.logFormat,
    colour: Deno.stderr.isTerminal() && env["NO_COLOR"] === undefined,
    write: (line) => console.error(line),
  });
  for (const warning of config.warnings) log.warn("ignored {warning}", { warning });
  using shutdown = new Shutdown({
    onSignal: (name, handler) => {
      Deno.addSignalListener(name, handler);
      return () => Deno.removeSignalListener(name, handler);
    },
    exit: (code, reason) => {
      log.error("exited at once: {reason}", { reason });
      Deno.exit(code);
    },
    now: () => performance.now(),
  });
  const { stopping } = shutdown;
  try {
    const health = new Health();
    stopping.addEventListener("abort", () => health.stopping());
    const { httpAddress } = config;
    const metrics = httpAddress && await Metrics.open(project.version, () => health.syncAgeMs);
    await using server = httpAddress && metrics && await serveHealth(httpAddress, health, metrics);
    if (server !== undefined) log.info("listening on port {port}", { port: server.port });
    const observer = metrics ?? noMetrics;
    await retry((_, working) => operate(config, env, purpose, { health, observer, working, stopping }), {
      backoff: new Backoff(operatorPolicy(config.maxRetries)),
      // If the login ends while we run, start over with a new one. Any other error ends the program.
      isRetryable: (error): error is Error => error instanceof TokenRefused,
      onRetry: ({ message }, waitMs) => {
        health.backingOff(waitMs);
        log.warn("starting over in {wait} s: {reason}", { reason: message, wait: Math.ceil(waitMs / 1_000) });
      },
    }, stopping);
  } catch (error) {
    if (!stopping.aborted || error !== stopping.reason) {
      log.error("stopped: {reason}", { reason: errorMessage(error), error });
      return error instanceof ConfigError ? 2 : 1;
    }
  }
  log.info("stopped");
  return 0;
}

/**
 * Exits at once on an uncaught error, and writes nothing more. A panic of the Rust crypto arrives here too, because it
 * rejects no promise.
 */
function endAtOnce(error: unknown): never {
  log.fatal("exited at once, and nothing more is written: {reason}", { reason: String(error), error });
  Deno.exit(1);
}

/** State that outlives a login. */
interface Process {
  readonly health: Health;
  readonly observer: typeof noMetrics;
  /** Called while all goes well, so that a login that ends days later doesn't count as a failure in a row. */
  readonly working: () => void;
  readonly stopping: AbortSignal;
}

/** Creates the parts in order of their dependencies. They end in reverse order. */
async function operate(
  config: Config,
  env: Readonly<Record<string, string>>,
  purpose: Purpose,
  { health, observer, working, stopping }: Process,
): Promise<void> {
  await using lifetime = new Lifetime(stopping, endAtOnce);
  const { signal } = lifetime;
  health.starting();
  const policy = operatorPolicy(config.maxRetries);
  const onWait = (waitMs: number): void => {
    health.backingOff(waitMs);
    observer.retried();
  };
  const retried = <Value>(work: (signal: AbortSignal) => Promise<Value>): Promise<Value> =>
    retry(work, {
      backoff: new Backoff(policy),
      onRetry: (error, waitMs) => {
        onWait(waitMs);
        log.warn("trying again in {wait} s: {reason}", { reason: error.message, wait: Math.ceil(waitMs / 1_000) });
      },
    }, signal);

  // Compiles while the store is opened.
  const cryptoLoaded = loadCrypto();
  const cluster = lifetime.use(await openCluster(clusterEnvironment(env), signal));
  const store = lifetime.use(
    await openStore({
      folder: config.storePath,
      key: config.storeKey?.reveal(),
      holder: { host: Deno.hostname(), pid: Deno.pid },
    }),
  );
  await store.openCrypto();
  lifetime.failOn(store.failed);
  await cryptoLoaded;

  const known = store.account.load()?.homeserver;
  const homeserver = await retried((signal) => findHomeserver(config.homeserver, signal, known));
  if (purpose === "fresh-device") setOldStoreAside(config.storePath);
  await lifetime.guard(takeOver({ store, folder: config.storePath, homeserver, user: config.user }));
  const allowedUsers = new Set(config.allowedUsers);
  const sessionOptions: OpenSessionOptions = {
    homeserver,
    login: config.login,
    store,
    allowedUsers,
    agents: new Set(config.agents.map(({ userId }) => userId)),
    onlySignedDevices: config.senderTrust === "cross-signed",
    now: Date.now,
    retry: retried,
    onWait,
  };
  if (purpose === "rotate-store-key") {
    await lifetime.guard(rotateStoreKey(sessionOptions, config, console, signal));
    return;
  }
  const session = lifetime.use(await lifetime.guard(openSession(sessionOptions, signal)));
  if (config.agents.some(({ userId }) => userId === session.self)) {
    throw new ConfigError([`AGENTS: is the operator's own account (got "${session.self}"); use the agent's`]);
  }
  const allowedRooms = await retried((signal) => session.roomIds(config.allowedRooms, signal));

  const api = new KubernetesApi(cluster, { onOutcome: (answered) => (health.kubernetesAnswers = answered) });
  const scaler = new KubernetesScaler(api);
  const operator = lifetime.use(
    new Operator({
      chat: session,
      scaler,
      rollouts: scaler,
      journal: store.journal,
      targetDocument: store.targetDocument,
      transaction: (calls) => store.transaction(calls),
      pins: store.pins,
      config: { ...config, allowedUsers, allowedRooms, trustedIdentities: new Map(config.trustedIdentities) },
      clock: systemClock,
      newBackoff: (changes) => new Backoff({ ...policy, maxFailures: Infinity, ...changes }),
      observer,
    }),
  );

  const prune = hourly(() => store.journal.prune());
  const retire = hourly(() => retireOldStore(store, config.storePath), PREDECESSOR_MS);
  const firstSync = Promise.withResolvers<void>();
  const synced = (): void => {
    health.synced();
    working();
    prune();
    retire();
    firstSync.resolve();
  };
  lifetime.start((signal) => session.run(operator, synced, { policy, onWait }, signal));
  await lifetime.waitFor(firstSync.promise);
  const recoveryKey = config.recoveryKey?.reveal();
  if (purpose === "reset-identity") {
    await lifetime.guard(retried((signal) => session.ensureIdentity(recoveryKey, true, signal)));
    return;
  }
  const { targets } = config;
  lifetime.start((signal) => becomeReady({ health, session, scaler, targets, recoveryKey }, signal));
  lifetime.start((signal) =>
    every(PROBE_MS, async () => {
      if (!health.kubernetesAnswers) await serverVersion(api, signal).catch(() => signal.throwIfAborted());
    }, signal)
  );
  lifetime.start((signal) => session.restoreDetection.raiseDaily(signal));
  lifetime.defer(() => stopping.aborted ? session.restoreDetection.raiseAtEnd() : undefined);
  await lifetime.waitForMain(operator.run(signal));
}

Deno.exit(await main(Deno.args));
