/**
 * Decides what happens to each response: passed unchanged, replaced by one from its grammar, corrupted, replaced by an
 * error, or broken at the HTTP level. The choice depends only on the seed, the endpoint and the request's number at
 * that endpoint, so failures are reproducible.
 *
 * @module
 */

import fc from "fast-check";
import type { Forged } from "../../testbed/proxy.ts";
import { spoilt } from "../faults/mutation.ts";
import { render } from "./json.ts";
import { GIVEN_TOKEN } from "./matrix.ts";
import { nastyText } from "./values.ts";

/** A changed response. */
export interface Change {
  /** Endpoint and number, such as `sync#17`. Together with the seed, this identifies the change. */
  readonly name: string;
  /** Kind of change. */
  readonly how: How;
  /** What was sent instead. */
  readonly answer: Forged;
}

type How = "pass" | "grammar" | "spoilt" | "error" | "broken";

/** A request whose response may be changed. */
export interface Question {
  /** Name of the endpoint. */
  readonly endpoint: string;
  /** Sync token in the request, or "". */
  readonly token: string;
  /** Possible success responses. */
  readonly grammar: fc.Arbitrary<unknown>;
  /** Possible error responses. */
  readonly error: fc.Arbitrary<unknown>;
  /**
   * Whether the server must execute the request before a success is forged. `never`: the request only reads. `always`:
   * an unexecuted success would be a lie that the operator can't detect.
   */
  readonly done: "never" | "sometimes" | "always";
  /** Whether the body is the grammar's text as is, because the response is a stream. */
  readonly streamed: boolean;
}

/** Retry-After values that cause a short wait or none. */
const SHORT_WAITS = ["0", "1", "2", "-1", "1.5", "soon", "", "Thu, 01 Jan 1970 00:00:00 GMT", "0x10", "1, 2"];
/** Values that are clamped to minutes. Only used in long runs. */
const LONG_WAITS = ["8640000", "99999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"];

/** Errors are rare, because each one causes a backoff during which nothing else is tested. */
const how: fc.Arbitrary<How> = fc.oneof(
  { weight: 4, arbitrary: fc.constant("pass") },
  { weight: 20, arbitrary: fc.constant("grammar") },
  { weight: 12, arbitrary: fc.constant("spoilt") },
  { weight: 2, arbitrary: fc.constant("error") },
  { weight: 1, arbitrary: fc.constant("broken") },
);
const contentType = fc.oneof(
  { weight: 8, arbitrary: fc.constant("application/json") },
  {
    weight: 1,
    arbitrary: fc.constantFrom("text/html", "application/json; charset=utf-16", "application/octet-stream", "x", ""),
  },
);
const errorStatus = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(400, 401, 403, 404, 409, 429, 500, 502, 503, 504) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      201,
      204,
      205,
      206,
      299,
      300,
      301,
      302,
      304,
      307,
      308,
      402,
      405,
      408,
      410,
      413,
      415,
      418,
      422,
      431,
      501,
      511,
      520,
      599,
      600,
      999,
    ),
  },
);
const location = fc.constantFrom(
  "",
  "/",
  "//",
  "http://[",
  "javascript:1",
  "https://evil.example/",
  "?a",
  "http://127.0.0.1:1/",
);
const page = fc.constantFrom(
  "<html><body>Bad gateway</body></html>",
  "",
  "null",
  "[]",
  "1",
  '"',
  "{",
  '{"a":1}{"b":2}',
  "\ufeff{}",
  "\0",
);

/** Forges responses and records the latest ones. */
export class Forger {
  /** Names of all changed responses, oldest first. */
  readonly names: string[] = [];
  /** The latest changed responses, oldest first. */
  readonly ring: Change[] = [];
  /** Number of changed responses by endpoint. */
  readonly counts: Map<string, number> = new Map();
  /** Endpoints whose responses are currently changed. */
  active: ReadonlySet<string> = new Set();
  readonly #seed: number;
  readonly #waits: readonly string[];
  readonly #numbers = new Map<string, number>();
  /** The only responses to change, in order, by endpoint. Undefined means all. */
  readonly #wanted: ReadonlyMap<string, number[]> | undefined;

  /**
   * @param long whether responses may ask for waits of minutes
   * @param only names of the only responses to change, each once. Undefined means all
   */
  constructor(seed: number, long: boolean, only?: readonly string[]) {
    this.#seed = seed;
    this.#waits = [...SHORT_WAITS, ...SHORT_WAITS, ...(long ? LONG_WAITS : [])];
    if (only === undefined) return;
    const parted = only.map((name) => name.split("#")).map(([endpoint = "", number]) =>
      [endpoint, Number(number)] as const
    );
    this.#wanted = new Map([...Map.groupBy(parted, ([endpoint]) => endpoint)].map(([endpoint, all]) => [
      endpoint,
      all.map(([, number]) => number),
    ]));
  }

  /** Returns the forged response, or undefined to pass the server's. */
  async answer(question: Question, ask: () => Promise<Forged>): Promise<Forged | undefined> {
    const { endpoint } = question;
    if (!this.active.has(endpoint)) return undefined;
    const number = this.#next(endpoint);
    if (number === undefined) return undefined;
    const draw = <T>(arbitrary: fc.Arbitrary<T>, what: string): T =>
      drawn(arbitrary, this.#seed, endpoint, number, what);
    const chosen = draw(how, "how");
    if (chosen === "pass") return undefined;
    const made = await this.#make(chosen, question, draw, ask);
    // A sync may have waited for news until after the round.
    if (made === undefined || !this.active.has(endpoint)) return made;
    this.counts.set(endpoint, (this.counts.get(endpoint) ?? 0) + 1);
    const name = `${endpoint}#${number}`;
    this.names.push(name);
    this.ring.push({ name, how: chosen, answer: made });
    if (this.ring.length > 60) this.ring.shift();
    return made;
  }

  /** Returns the number of a request to the endpoint, or undefined if its response must not be changed. */
  #next(endpoint: string): number | undefined {
    if (this.#wanted !== undefined) return this.#wanted.get(endpoint)?.shift();
    const number = (this.#numbers.get(endpoint) ?? -1) + 1;
    this.#numbers.set(endpoint, number);
    return number;
  }

  async #make(
    chosen: How,
    { endpoint, grammar, error, done, streamed, token }: Question,
    draw: <T>(arbitrary: fc.Arbitrary<T>, what: string) => T,
    ask: () => Promise<Forged>,
  ): Promise<Forged | undefined> {
    const headers = { "content-type": draw(contentType, "content type") };
    if (chosen === "error") {
      const wait = draw(fc.constantFrom(undefined, ...this.#waits), "wait");
      const status = draw(errorStatus, "status");
      const told = [201, 204, 205, 206, 299].includes(status);
      if (told && done === "always") return undefined;
      return {
        status,
        headers: {
          ...headers,
          ...(wait === undefined ? {} : { "retry-after": wait }),
          ...(status >= 300 && status < 400 ? { location: draw(location, "location") } : {}),
        },
        body: draw(fc.oneof({ weight: 4, arbitrary: error.map(render) }, { weight: 1, arbitrary: page }), "error"),
        then: "end",
      };
    }
    const asks = chosen !== "grammar" || done === "always" || (done === "sometimes" && draw(fc.boolean(), "asks"));
    const truth = asks && !streamed ? await ask() : undefined;
    if (truth !== undefined && (truth.status >= 400 || !this.active.has(endpoint))) return truth;
    const grown = (): string => {
      const value = draw(grammar, "value");
      const text = typeof value === "string" && streamed ? value : render(value);
      return text.replaceAll(JSON.stringify(GIVEN_TOKEN), JSON.stringify(token));
    };
    if (chosen === "grammar") {
      return { status: 200, headers, body: grown(), then: streamed && draw(fc.boolean(), "held") ? "stall" : "end" };
    }
    if (chosen === "spoilt") {
      const body = truth === undefined ? grown() : render(draw(spoilt([parsed(truth.body)]), "spoilt"));
      return { status: 200, headers, body, then: "end" };
    }
    const whole = truth?.body ?? grown();
    const half = whole.slice(0, Math.floor(whole.length / 2));
    return draw(
      fc.oneof<fc.Arbitrary<Forged>[]>(
        fc.constant({ status: 200, headers, body: half, then: "end" }),
        fc.constant({ status: 200, headers, body: half, then: "drop" }),
        fc.constant({ status: 200, headers, body: half, then: "stall" }),
        fc.constant({ status: 200, headers: { ...headers, "content-encoding": "gzip" }, body: whole, then: "end" }),
        fc.oneof(page, nastyText).map((body) => ({ status: 200, headers, body, then: "end" })),
      ),
      "broken",
    );
  }
}

function parsed(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch (error) {
    if (error instanceof SyntaxError) return body;
    throw error;
  }
}

function drawn<T>(arbitrary: fc.Arbitrary<T>, seed: number, endpoint: string, number: number, what: string): T {
  const [value] = fc.sample(arbitrary, { seed: hash(`${seed} ${endpoint} ${number} ${what}`), numRuns: 1 });
  return value as T;
}

/** FNV-1a, 32 bits. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) value = Math.imul(value ^ byte, 0x01000193);
  return value | 0;
}
