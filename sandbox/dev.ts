/**
 * `deno task dev`: runs the operator from these sources on the kubeconfig's cluster and restarts it on every change. It
 * uses the homeserver of the environment. If none is set, it uses the sandbox homeserver, with a chat in the terminal.
 *
 * @module
 */

import { delimiter, join } from "node:path";
import { Operator, projectFolder } from "./operator.ts";
import { Problem, readPorts, runProgram } from "./program.ts";
import { chatInTerminal, isTerminal, Stage } from "./stage.ts";

const cacheFolder = join(projectFolder, ".cache", "dev");
/** Editors write a file more than once. A change is complete after this long without another one. */
const quietMs = 200;
/** Exit code of the operator for an invalid configuration (SPEC 2). Restarting would not help. */
const wrongConfiguration = 2;
/** Variables about the operator's account and its homeserver. The sandbox homeserver sets them. */
const accountVariable =
  /^(MATRIX|ALLOWED|AUTH|SSO|JWT|KEYCLOAK|TRUSTED|RECOVERY|CRYPTO_STORE|LOG_FORMAT|LOGURU)(_|$)|^(SENDER_TRUST|HTTP_ADDRESS)$/;

async function develop(stop: AbortSignal): Promise<number> {
  const ports = readPorts(["homeserver-port"]);
  const environment = { ...Deno.env.toObject(), KUBECONFIG: await kubeconfig() };
  await Deno.mkdir(cacheFolder, { recursive: true, mode: 0o700 });
  if (Deno.env.get("MATRIX_HOMESERVER")?.trim()) await onGivenHomeserver(environment, stop);
  else await onSandbox(environment, ports["homeserver-port"], stop);
  return 0;
}

async function onGivenHomeserver(given: Record<string, string>, stop: AbortSignal): Promise<void> {
  const defaults = { CRYPTO_STORE_PATH: join(cacheFolder, "crypto_store"), LOG_FORMAT: "text" };
  const set = Object.entries(given).filter(([, value]) => value.trim() !== "");
  const environment = { ...defaults, ...Object.fromEntries(set) };
  const start = () => Operator.start({ environment, print: (line) => console.error(line), mayRun: true });
  await keepRunning(start, (state) => console.error(`dev: the operator is ${state}`), stop);
}

async function onSandbox(given: Record<string, string>, port: number, stop: AbortSignal): Promise<void> {
  if (!isTerminal()) {
    throw new Problem("Cannot chat: this is no terminal. Use one, or set MATRIX_HOMESERVER and chat elsewhere.");
  }
  await using stage = await Stage.open(port);
  const kept = Object.entries(given).filter(([name]) => !accountVariable.test(name));
  const level = given["LOG_LEVEL"]?.trim() === "debug" ? { LOG_LEVEL: "debug" } : {};
  const environment = { ...Object.fromEntries(kept), ...stage.environment, ...level };
  const logPath = join(cacheFolder, "operator.log");
  using log = await Deno.open(logPath, { create: true, write: true, truncate: true, mode: 0o600 });
  const print = (line: string) => void log.writeSync(new TextEncoder().encode(`${line}\n`));
  const start = () => Operator.start({ environment, print, mayRun: true, folder: stage.folder });

  const { promise: ready, resolve } = Promise.withResolvers<void>();
  const end = new AbortController();
  let tell: (state: string) => void = () => {};
  const running = keepRunning(start, (state) => {
    if (state === "ready") resolve();
    tell(state);
  }, AbortSignal.any([stop, end.signal]));
  // Reported through the signal to whatever is awaited below.
  running.catch((error) => end.abort(error));
  await chatInTerminal(stage, {
    title: "dev",
    advice: ["start, stop, status, help · Ctrl-D ends", "Ctrl-D ends"],
    ready,
    decorate: (chat) => {
      tell = (state) => chat.show({ title: `dev: ${state} · .cache/dev/operator.log` });
      tell("starting");
      return { [Symbol.dispose]: () => void (tell = () => {}) };
    },
  }, AbortSignal.any([stop, end.signal])).finally(async () => {
    end.abort();
    await running.catch(() => undefined);
  });
}

/**
 * Restarts the operator on every change, until the signal aborts; then stops it and returns.
 *
 * @throws Problem if its configuration is invalid
 */
async function keepRunning(
  start: () => Promise<Operator>,
  tell: (state: string) => void,
  signal: AbortSignal,
): Promise<void> {
  using changes = new Changes();
  const { promise: aborted, resolve } = Promise.withResolvers<void>();
  signal.addEventListener("abort", () => resolve());
  while (!signal.aborted) {
    const changed = changes.next();
    tell("starting");
    await using operator = await start();
    operator.ready.then(() => tell("ready"), () => undefined);
    const code = await Promise.race([changed, aborted, operator.ended]);
    if (code === wrongConfiguration) throw operator.failure("its configuration is wrong");
    if (code === undefined) continue;
    tell(`ended with code ${code}, waiting for a change`);
    await Promise.race([changed, aborted]);
  }
}

/** Watches the operator's sources for changes. */
class Changes implements Disposable {
  // To follow a file that editors replace, its folder must be watched.
  readonly #watchers = [Deno.watchFs(projectFolder, { recursive: false }), Deno.watchFs(join(projectFolder, "lib"))];
  #change = Promise.withResolvers<void>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor() {
    for (const watcher of this.#watchers) void this.#follow(watcher);
  }

  /** Resolves when the next change from now on is complete. */
  next(): Promise<void> {
    this.#change = Promise.withResolvers<void>();
    return this.#change.promise;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    for (const watcher of this.#watchers) watcher.close();
  }

  async #follow(watcher: Deno.FsWatcher): Promise<void> {
    const folders = [join(projectFolder, "lib"), join(projectFolder, "main.ts"), join(projectFolder, "deno.json")];
    for await (const { kind, paths } of watcher) {
      if (kind === "access" || !paths.some((path) => folders.some((folder) => path.startsWith(folder)))) continue;
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#change.resolve(), quietMs);
    }
  }
}

/**
 * Returns the path of the kubeconfig, or a list of paths as in KUBECONFIG.
 *
 * @throws Problem if none exists
 */
async function kubeconfig(): Promise<string> {
  const given = Deno.env.get("KUBECONFIG")?.trim();
  if (given) {
    const paths = given.split(delimiter).filter((path) => path !== "");
    if ((await Promise.all(paths.map(isFile))).some((there) => there)) return given;
    throw new Problem(`Cannot find the cluster: KUBECONFIG is ${given}, and there is no such file`);
  }
  const own = join(Deno.env.get("HOME") ?? Deno.env.get("USERPROFILE") ?? "", ".kube", "config");
  if (await isFile(own)) return own;
  throw new Problem(`Cannot find a cluster: KUBECONFIG is not set, and there is no ${own}`);
}

async function isFile(path: string): Promise<boolean> {
  return await Deno.stat(path).then((stat) => !stat.isDirectory, () => false);
}

await runProgram(develop);
