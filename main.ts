/**
 * The program: arguments, environment, signals and exit codes; builds the parts and joins them.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { getLogger } from "@logtape/logtape";
import project from "./deno.json" with { type: "json" };
import { type Config, encodeRecoveryKey, helpTable, readConfig } from "./lib/config/mod.ts";
import { ConfigError, NotFoundError, TransientError } from "./lib/errors/mod.ts";
import { type Observer, Operator, type Target } from "./lib/operator/mod.ts";
import {
  KubernetesApi,
  KubernetesRollouts,
  KubernetesScaler,
  openCluster,
  serverVersion,
  SERVICE_ACCOUNT_FOLDER,
} from "./lib/scaler/mod.ts";
import {
  Backoff,
  type BackoffPolicy,
  Health,
  Metrics,
  operatorPolicy,
  retrying,
  serveHealth,
  Shutdown,
  sleep,
  startLogging,
  waitAfter,
} from "./lib/service/mod.ts";
import { findHomeserver, openSession, type Pace, type Session, TokenRefused } from "./lib/session/mod.ts";
import { openStore, type Store } from "./lib/store/mod.ts";
import { retireOldStore, setOldStoreAside, takeOver } from "./lib/takeover/mod.ts";

const USAGE =
  `openclaw-toggle ${project.version}: switches a Kubernetes Deployment on and off from an encrypted Matrix chat

usage: openclaw-toggle [--conntest | --new-recovery-key | --reset-identity | --fresh-device | --version | --help]

  (nothing)           run the operator
  --conntest          check configuration, homeserver, login and cluster, and exit 0 or 1
  --new-recovery-key  print a new recovery key for RECOVERY_KEY, and exit
  --reset-identity    make a new cross-signing identity for the operator's account, and exit; for when both the
                      volume and the recovery key are lost
  --fresh-device      run the operator, and leave the device of the Python operator alone: its files are set aside
  --version           print the version
  --help              print this

exit codes: 0 ended well, 1 failed, 2 wrong configuration or usage

configuration, from the environment:
`;

const log = getLogger(["openclaw-toggle", "main"]);
/** How long the effect in hand may take to end, milliseconds. */
const GRACE_MS = 5_000;
/** How long the Python operator, whose place we take, may still be there, milliseconds: a pod's grace, and some. */
const PREDECESSOR_MS = 60_000;
/** How long after one that was not answered the Kubernetes API is called again, milliseconds. */
const PROBE_MS = 30_000;

async function main(args: readonly string[]): Promise<number> {
  const purpose = purposeOf(args);
  switch (purpose) {
    case "help":
      return say(USAGE + helpTable());
    case "version":
      return say(project.version);
    case "recovery key":
      return say(encodeRecoveryKey(crypto.getRandomValues(new Uint8Array(32))));
    case "conntest":
      return await (await import("./conntest.ts")).connectionTest();
    case undefined:
      return 2;
    default:
      return await runOperator(purpose);
  }
}

type Purpose = "operate" | "reset identity" | "fresh device";

/** What the arguments ask for; undefined if that is not clear, and has been said. */
function purposeOf(args: readonly string[]): Purpose | "help" | "version" | "recovery key" | "conntest" | undefined {
  const flag = { type: "boolean" } as const;
  const options = {
    conntest: flag,
    "new-recovery-key": flag,
    "reset-identity": flag,
    "fresh-device": flag,
    version: flag,
    help: flag,
  };
  try {
    const { values } = parseArgs({ args: [...args], options });
    if (values.help) return "help";
    if (values.version) return "version";
    if (values["new-recovery-key"]) return "recovery key";
    if (values.conntest) return "conntest";
    if (values["fresh-device"]) return "fresh device";
    return values["reset-identity"] ? "reset identity" : "operate";
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    console.error(
      `${error.message}\npermitted: --conntest, --new-recovery-key, --reset-identity, --fresh-device, --version, --help, or nothing`,
    );
    return undefined;
  }
}

function say(text: string): number {
  console.log(text);
  return 0;
}

/** Runs until a signal or a failure ends it; never throws. */
async function runOperator(purpose: Purpose): Promise<number> {
  const env = Deno.env.toObject();
  let config: Config;
  try {
    config = readConfig(env, {
      inCluster: env["KUBERNETES_SERVICE_HOST"] !== undefined,
      terminal: Deno.stderr.isTerminal(),
      readFile: Deno.readTextFileSync,
    });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    for (const problem of error.problems) console.error(problem);
    return 2;
  }
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
    await retrying((_, working) => operate(config, env, purpose, working, shutdown.stopping).catch(loggedOut), {
      backoff: new Backoff(operatorPolicy(config.maxRetries)),
      signal: shutdown.stopping,
      onFailure: ({ message }, waitMs) => {
        log.warn("{reason}; starting over in {wait} s", { reason: message, wait: Math.ceil(waitMs / 1_000) });
      },
    });
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
  const metrics = config.httpAddress === undefined
    ? undefined
    : await Metrics.open(project.version, () => health.syncAgeMs);
  const observer = metrics ?? uncounted;
  await using server = config.httpAddress === undefined || metrics === undefined
    ? undefined
    : serveHealth(config.httpAddress, health, metrics);
  if (server !== undefined) log.info("listening on port {port}", { port: server.port });
  using cluster = await openCluster({
    kubeconfig: env["KUBECONFIG"],
    serviceHost: env["KUBERNETES_SERVICE_HOST"],
    servicePort: env["KUBERNETES_SERVICE_PORT"],
    serviceAccountFolder: SERVICE_ACCOUNT_FOLDER,
    home: env["HOME"],
  }, stopping);
  const policy = operatorPolicy(config.maxRetries);
  const key = config.storeKey?.reveal();
  await using store = await openStore({
    folder: config.storePath,
    ...(key === undefined ? {} : { key }),
    holder: { host: Deno.hostname(), pid: Deno.pid },
  });
  await store.openCrypto();
  const waiting = (waitMs: number): void => {
    health.backingOff(waitMs);
    observer.retried();
  };
  const pace = (): Pace => paceOf(policy, waiting);
  const patiently = <Value>(work: (signal: AbortSignal) => Promise<Value>): Promise<Value> =>
    retrying(work, {
      backoff: new Backoff(policy),
      signal: stopping,
      onFailure: (error, waitMs) => {
        waiting(waitMs);
        log.warn("{reason}; trying again in {wait} s", { reason: error.message, wait: Math.ceil(waitMs / 1_000) });
      },
    });
  const homeserver = await patiently((signal) => findHomeserver(config.homeserver, signal));
  if (purpose === "fresh device") setOldStoreAside(config.storePath);
  await takeOver({ store, folder: config.storePath, homeserver, user: config.user });
  using session = await patiently((signal) => startSession(config, homeserver, store, signal));

  const api = new KubernetesApi(cluster, { onOutcome: (answered) => (health.kubernetesAnswers = answered) });
  const scaler = new KubernetesScaler(api);
  await using operator = new Operator({
    chat: session,
    scaler,
    rollouts: new KubernetesRollouts(api),
    journal: store.journal,
    memory: store.memory,
    transaction: (calls) => store.transaction(calls),
    pins: store.pins,
    settings: {
      allowedUsers: new Set(config.allowedUsers),
      allowedRooms: await patiently((signal) => allowedRooms(config, session, signal)),
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
    clock: { now: Date.now, sleep },
    waitAfter: (failures, retryAfterMs) => {
      observer.retried();
      return waitAfter(policy, failures, retryAfterMs);
    },
    observer,
  });

  const tidyUp = hourly(() => store.journal.prune());
  const retire = hourly(() => retireOldStore(store, config.storePath), PREDECESSOR_MS);
  const firstSync = Promise.withResolvers<void>();
  const ending = new AbortController();
  const syncing = session.run(
    {
      eventsArrived: () => operator.eventsArrived(),
      keyArrived: (roomId, sessionId) => operator.keyArrived(roomId, sessionId),
      roomsChanged: () => operator.roomsChanged(),
      devicesChanged: (userIds) => operator.devicesChanged(userIds),
      verificationAsked: (userId) => operator.verificationAsked(userId),
      synced: () => {
        health.synced();
        working();
        tidyUp();
        retire();
        firstSync.resolve();
      },
    },
    pace,
    AbortSignal.any([stopping, ending.signal]),
  );
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
  if (purpose === "reset identity") return await patiently((signal) => ownIdentity(config, session, true, signal));
  const getReady = async (): Promise<void> => {
    await patiently((signal) => ownIdentity(config, session, false, signal));
    await Promise.all(config.targets.map((target) => checkTarget(scaler, target, stopping)));
    health.ready();
    log.info("Ready: {user} takes commands for {targets}", {
      user: session.self,
      targets: config.targets.map(({ alias }) => alias).join(", "),
    });
  };
  await Promise.race([
    operator.run(stopping),
    getReady().then(() => new Promise<never>(() => {})).catch((error) => ended(error, stopping)),
    broken,
    probing(api, health, stopping).catch((error) => ended(error, stopping)),
    graceOver(stopping),
  ]).catch((error) => error instanceof WebAssembly.RuntimeError ? endAtOnce(error) : Promise.reject(error));
}

/** A call to the Kubernetes API that was not answered is followed by another one every 30 s, for readiness' sake. */
async function probing(api: KubernetesApi, health: Health, stopping: AbortSignal): Promise<never> {
  for (;;) {
    await sleep(PROBE_MS, stopping);
    if (health.kubernetesAnswers) continue;
    // What came of it, health has been told.
    await serverVersion(api, stopping).catch(() => stopping.throwIfAborted());
  }
}

function startSession(config: Config, homeserver: string, store: Store, signal: AbortSignal): Promise<Session> {
  return openSession({
    homeserver: { kind: "url", url: homeserver },
    login: config.login,
    store,
    allowedUsers: new Set(config.allowedUsers),
    onlySignedDevices: config.senderTrust === "cross-signed",
    now: Date.now,
  }, signal);
}

/** Back-off of one line of work, which tells of its waits. */
function paceOf(policy: BackoffPolicy, waiting: (waitMs: number) => void): Pace {
  const backoff = new Backoff(policy);
  return {
    working: () => backoff.working(),
    failed: (retryAfterMs) => {
      const next = backoff.failed(retryAfterMs);
      if (next.retry) waiting(next.waitMs);
      return next;
    },
    sleep,
  };
}

/** The rooms in which commands are accepted, as ids; an alias counts as what it points to at the start. */
async function allowedRooms(config: Config, session: Session, signal: AbortSignal): Promise<ReadonlySet<string>> {
  if (config.allowedRooms === "any") return new Set();
  const rooms = new Set<string>();
  for (const room of config.allowedRooms) {
    try {
      rooms.add(room.startsWith("#") ? await session.resolveAlias(room, signal) : room);
    } catch (error) {
      if (!(error instanceof NotFoundError)) throw error;
      log.warn("{reason}; see ALLOWED_ROOMS", { reason: error.message });
      // It still counts as named: without any room, commands would be taken in all of them.
      rooms.add(room);
    }
  }
  return rooms;
}

/** Brings the operator's own identity into order; that it cannot be signed is worth a warning, not an end. */
async function ownIdentity(config: Config, session: Session, reset: boolean, signal: AbortSignal): Promise<void> {
  const state = await session.ensureIdentity(config.recoveryKey?.reveal(), reset, signal);
  if (state.signed) log.info("own cross-signing identity: {masterKey}", { masterKey: state.masterKey });
  else log.warn("this device is not signed, so some clients may ignore it: {reason}", { reason: state.reason });
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

/** Does something at the first call after a delay, and then at most once an hour. */
function hourly(work: () => void, delayMs = 0): () => void {
  let nextMs = performance.now() + delayMs;
  return () => {
    if (performance.now() < nextMs) return;
    nextMs = performance.now() + 3_600_000;
    work();
  };
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

/** Nobody counts where nobody asks. */
const uncounted: Observer & Pick<Metrics, "retried"> = {
  retried: () => {},
  refused: () => {},
  commanded: () => {},
  undecryptable: () => {},
  scaled: () => {},
  ready: () => {},
  replicas: () => {},
};

Deno.exit(await main(Deno.args));
