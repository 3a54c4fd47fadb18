/**
 * Fault injection: which requests are affected, how often, and how.
 *
 * @module
 */

import type { IncomingMessage, ServerResponse } from "node:http";
import { Refused } from "./access.ts";

/**
 * What happens to a request: another response; the real response after a delay; no response; headers and half a body,
 * then nothing; the connection is dropped and nothing is done (`drop`); the request is carried out and the connection
 * is dropped (`lose`). If a reused connection is dropped, Deno's fetch repeats the request by itself.
 */
export type Effect =
  | { readonly answer: number; readonly headers?: Readonly<Record<string, string>>; readonly body?: string }
  | { readonly delayMs: number }
  | "silence"
  | "stall"
  | "drop"
  | "lose";

export interface Fault {
  /** HTTP method. Default: any. */
  readonly method?: string;
  /** Matches path and query. Default: any. */
  readonly path?: RegExp;
  /** Number of requests to affect. Default: all. */
  readonly times?: number;
  readonly effect: Effect;
}

/** Faults in force. */
export class Faults implements Disposable {
  readonly #active: { fault: Fault; left: number }[] = [];
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();

  [Symbol.dispose](): void {
    this.#active.length = 0;
    this.#timers.forEach(clearTimeout);
  }

  /** Adds a fault. Disposing of the result removes it. */
  add(fault: Fault): Disposable {
    const entry = { fault, left: fault.times ?? Infinity };
    this.#active.push(entry);
    return { [Symbol.dispose]: () => void (entry.left = 0) };
  }

  /**
   * Applies the first matching fault to a request.
   *
   * @returns `settled` if the request is finished; `lost` if it must be carried out without a response
   */
  async decide(request: IncomingMessage, response: ServerResponse): Promise<"settled" | "lost" | "untouched"> {
    const matches = ({ method, path }: Fault) =>
      (method ?? request.method) === request.method && (path === undefined || path.test(request.url ?? ""));
    const entry = this.#active.find(({ fault, left }) => left > 0 && matches(fault));
    if (entry === undefined) return "untouched";
    entry.left -= 1;
    const { effect } = entry.fault;
    if (effect === "lose") return "lost";
    if (effect === "drop") request.socket.destroy();
    else if (effect === "stall") response.writeHead(200, { "content-type": "application/json" }).write('{"kind":');
    else if (effect !== "silence") return await this.#bend(effect, response);
    return "settled";
  }

  async #bend(effect: Exclude<Effect, string>, response: ServerResponse): Promise<"settled" | "untouched"> {
    if ("delayMs" in effect) {
      await new Promise<void>((resolve) => this.#timers.add(setTimeout(resolve, effect.delayMs)));
      return "untouched";
    }
    const { answer, headers, body } = effect;
    response.writeHead(answer, { "content-type": "application/json", ...headers });
    response.end(body ?? JSON.stringify(new Refused(answer, "SandboxFault", "a fault of the sandbox").status()));
    return "settled";
  }
}
