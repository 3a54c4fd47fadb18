/**
 * Faults to be produced at will: which requests are hit, how often, and what happens to them.
 *
 * @module
 */

import type { IncomingMessage, ServerResponse } from "node:http";
import { Refused } from "./access.ts";

/**
 * What happens to a request: another answer; the true answer, but late; no answer at all; headers and half a body, and
 * then nothing; the connection dropped and nothing done (`drop`); the request carried out, and the connection dropped
 * (`lose`). Where a connection that had been used before is dropped, Deno's fetch sends the request once more by itself.
 */
export type Effect =
  | { readonly answer: number; readonly headers?: Readonly<Record<string, string>>; readonly body?: string }
  | { readonly delayMs: number }
  | "silence"
  | "stall"
  | "drop"
  | "lose";

/** A fault. */
export interface Fault {
  /** HTTP method; any unless given. */
  readonly method?: string;
  /** Matches path and query; any unless given. */
  readonly path?: RegExp;
  /** How many requests are hit; all unless given. */
  readonly times?: number;
  /** What happens to them. */
  readonly effect: Effect;
}

/** Faults that are switched on. */
export class Faults implements Disposable {
  readonly #active: { fault: Fault; left: number }[] = [];
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();

  [Symbol.dispose](): void {
    this.#active.length = 0;
    this.#timers.forEach(clearTimeout);
  }

  /** Switches a fault on; disposing of what it returns switches it off. */
  add(fault: Fault): Disposable {
    const entry = { fault, left: fault.times ?? Infinity };
    this.#active.push(entry);
    return { [Symbol.dispose]: () => void (entry.left = 0) };
  }

  /**
   * Lets the first fault that matches have its way with a request.
   *
   * @returns `settled` if nothing more is to be done; `lost` if it is to be carried out, and not answered
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
