/**
 * Profiles a Deno process that was started with `--inspect`, and sums up where its main thread has been.
 *
 * @module
 */

/** A node of V8's CPU profile (Chrome DevTools Protocol, Profiler.ProfileNode). */
interface ProfileNode {
  readonly id: number;
  readonly callFrame: { readonly functionName: string; readonly url: string };
  readonly children?: readonly number[];
}

/** V8's CPU profile (Chrome DevTools Protocol, Profiler.Profile). Times are in microseconds. */
export interface CpuProfile {
  readonly nodes: readonly ProfileNode[];
  readonly startTime: number;
  readonly endTime: number;
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

/** A part of the program, and its share of the main thread's time. */
export interface Share {
  readonly part: string;
  /** From 0 to 1. */
  readonly share: number;
}

/** The main thread waits for something to do. */
export const idle = "idle";

/** Sampling interval in microseconds. */
const interval = 500;

/** A connection to the inspector of a process. */
export class Profiler implements Disposable {
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, PromiseWithResolvers<Record<string, unknown>>>();
  #last = 0;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.onmessage = ({ data }) => {
      const { id, result, error } = JSON.parse(data);
      const waiting = this.#waiting.get(id);
      if (error) waiting?.reject(new Error(`Cannot profile: ${error.message}`));
      else waiting?.resolve(result);
    };
    socket.onclose = () => {
      for (const { reject } of this.#waiting.values()) reject(new Error("Cannot profile: the process has ended"));
    };
  }

  /** Connects to the inspector at an address, `host:port`. */
  static async connect(address: string): Promise<Profiler> {
    const [process] = await (await fetch(`http://${address}/json/list`)).json();
    const socket = new WebSocket(process.webSocketDebuggerUrl);
    await new Promise((resolve, reject) => {
      socket.onopen = resolve;
      socket.onerror = reject;
    });
    return new Profiler(socket);
  }

  /** Starts sampling. */
  async start(): Promise<void> {
    await this.#call("Profiler.enable");
    await this.#call("Profiler.setSamplingInterval", { interval });
    await this.#call("Profiler.start");
  }

  /** Stops sampling. */
  async stop(): Promise<CpuProfile> {
    return (await this.#call("Profiler.stop"))["profile"] as CpuProfile;
  }

  /** Disconnects. */
  [Symbol.dispose](): void {
    this.#socket.close();
  }

  async #call(method: string, params: Record<string, unknown> = {}): Promise<Record<string, unknown>> {
    const waiting = Promise.withResolvers<Record<string, unknown>>();
    const id = ++this.#last;
    this.#waiting.set(id, waiting);
    this.#socket.send(JSON.stringify({ id, method, params }));
    try {
      return await waiting.promise;
    } finally {
      this.#waiting.delete(id);
    }
  }
}

/** Sums up a profile by part, largest first. `root` is the URL of the project's folder. */
export function sharesOf({ nodes, samples, timeDeltas }: CpuProfile, root: string): Share[] {
  const parents = new Map(nodes.flatMap(({ id, children = [] }) => children.map((child) => [child, id])));
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const parts = new Map(nodes.map((node) => {
    const parent = byId.get(parents.get(node.id) ?? NaN);
    return [node.id, partOf(node.callFrame, parent?.callFrame.url ?? "", root)];
  }));
  const spent = new Map<string, number>();
  samples.forEach((id, index) => {
    const part = parts.get(id) ?? "unknown";
    spent.set(part, (spent.get(part) ?? 0) + (timeDeltas[index] ?? 0));
  });
  const whole = [...spent.values()].reduce((sum, each) => sum + each, 0);
  return [...spent].map(([part, time]) => ({ part, share: time / whole })).toSorted((a, b) => b.share - a.share);
}

function partOf({ functionName, url }: ProfileNode["callFrame"], caller: string, root: string): string {
  if (functionName === "(idle)") return idle;
  if (functionName === "(garbage collector)") return "garbage collection";
  if (functionName === "(program)") return "V8 and Deno, outside JavaScript";
  if (url.startsWith("wasm:")) return "crypto (WebAssembly)";
  if (url.startsWith(root)) {
    const [top = "", room = ""] = url.slice(root.length).split("/");
    return top === "lib" ? `lib/${room}` : top;
  }
  const [, scope, name] = /\/npm\/[^/]+\/(?:(@[^/]+)\/)?([^/]+)\//.exec(url) ?? [];
  if (name !== undefined) return [scope, name].filter((part) => part !== undefined).join("/");
  // A function without a source is native. The store calls nothing native that is long, except SQLite.
  if (url === "" && caller.startsWith(`${root}lib/store/`)) return "SQLite, with the disk";
  return url === "" ? "Deno's operations" : "Deno's JavaScript";
}
