/**
 * A fuzz of the real operator: rounds of changed answers while people talk to it, and after each the question whether it
 * is well.
 *
 * @module
 */

import { encodeRecoveryKey } from "../../lib/config/mod.ts";
import { freePort } from "../../testbed/network.ts";
import { firstAnswer, type Message, Person } from "../../sandbox/person/mod.ts";
import { type OperatorOptions, OperatorProcess } from "../operator_process.ts";
import { Forger } from "./forger.ts";
import { Ground, Rates } from "./ground.ts";

const MEBI = 2 ** 20;
/** The most by which the store, and the heap, may have grown. */
const MAX_STORE_MB = 2;
const MAX_HEAP_MB = 10;
/** After a round: the longest back-off of our own, a request under way, and some. */
const RECOVERY_MS = 60_000;
/** As the cap on what servers ask for. */
const LONG_RECOVERY_MS = 6 * 60_000;
/** Of whom nothing is heard for so long, hangs. */
const HANG_MS = 15_000;
/** Of an event loop that is held for longer it is told by what, milliseconds. */
const HELD_MS = 500;
/** From here on there is time for long waits. */
const LONG_RUN_MS = 10 * 60_000;
const ACTIVITY_MS = 400;
/** A life at whose start answers are changed: what a back-off would spend waiting is spent on another one. */
const LIFE_MS = 3_000;
const WORDS = ["start", "status", "stop", "help", "hello", "start 2h"];

/** What a fuzz is told. */
export interface FuzzOptions {
  /** All answers follow from it. */
  readonly seed: number;
  /** How long answers are changed, milliseconds. */
  readonly forMs: number;
  /** Names of the only rounds; all unless given. */
  readonly rounds?: readonly string[] | undefined;
  /** Names of the only answers that are changed; all unless given. */
  readonly answers?: readonly string[] | undefined;
  /** Folder of the program; the project's own unless given. */
  readonly root?: string;
  /** Ends with the first failure of one of these. */
  readonly until?: readonly Property[];
  /** Told what goes on. */
  readonly print?: (line: string) => void;
}

/** What is asked of the operator. */
export const PROPERTIES = [
  "no exit",
  "no hang",
  "no unhandled rejection",
  "no request loop over 10 a second",
  "health answers within a second",
  "a command is obeyed afterwards",
  "store within 2 MB",
  "heap within 10 MB",
] as const;
/** One of them. */
export type Property = (typeof PROPERTIES)[number];

/** What came of a fuzz. */
export interface Outcome {
  /** Failures by property; empty if all is well. */
  readonly failures: ReadonlyMap<Property, readonly string[]>;
  /** Names of the answers that were changed, earliest first. */
  readonly changes: readonly string[];
  /** File with the last changed answers, if there was a failure. */
  readonly record: string | undefined;
}

interface Round {
  readonly name: string;
  readonly endpoints: readonly string[];
  /** A new operator is started meanwhile, with a store of its own. */
  readonly starting?: boolean;
}

const KEYS = ["keys/upload", "keys/query", "keys/claim", "sendToDevice"];
const ROOMS = ["messages", "send", "join", "leave"];
const CLUSTER = ["get", "scale", "watch", "pods", "events", "version"];
const START = ["login", "whoami", "profile", "directory", "account_data", "device_signing", "signatures", "well-known"];
const ROUNDS: readonly Round[] = [
  { name: "sync", endpoints: ["sync"] },
  { name: "keys", endpoints: KEYS },
  { name: "rooms", endpoints: ROOMS },
  { name: "cluster", endpoints: CLUSTER },
  { name: "start", endpoints: [...START, ...KEYS], starting: true },
  { name: "all", endpoints: ["sync", ...KEYS, ...ROOMS, ...CLUSTER] },
];
/** Refusals of who we say we are end the program, and what is configured wrong does. */
const MAY_END = ["login", "whoami", "well-known", "account_data"];

/** Fuzzes for so long; resolves early where going on makes no sense. */
export async function fuzz(options: FuzzOptions): Promise<Outcome> {
  await using run = await Run.begin(options);
  await run.go();
  return await run.outcome();
}

class Run implements AsyncDisposable {
  readonly #options: FuzzOptions;
  readonly #forger: Forger;
  readonly #rates: Rates;
  readonly #ground: Ground;
  readonly #failures = new Map<Property, string[]>();
  readonly #resources: AsyncDisposableStack;
  readonly #health = `127.0.0.1:${freePort()}`;
  readonly #long: boolean;
  #operator: OperatorProcess | undefined;
  /** Sizes at the begin: of the store while the operator is down, of what is on the disk while it runs, of the heap. */
  #store = 0;
  #disk = 0;
  #heap = 0;
  #starts = 0;
  #spoken = 0;
  /** The longest time for which its event loop was held in a round, milliseconds. */
  #held = 0;
  #told: (memory: string) => void = () => {};
  /** When it has last answered for its health. */
  #heardAt = 0;
  /** The operator has ended by itself. */
  #ended = false;
  #ending = false;

  private constructor(
    options: FuzzOptions,
    forger: Forger,
    rates: Rates,
    ground: Ground,
    resources: AsyncDisposableStack,
  ) {
    this.#options = options;
    this.#forger = forger;
    this.#rates = rates;
    this.#ground = ground;
    this.#resources = resources;
    this.#long = options.forMs >= LONG_RUN_MS;
  }

  static async begin(options: FuzzOptions): Promise<Run> {
    await using resources = new AsyncDisposableStack();
    const forger = new Forger(options.seed, options.forMs >= LONG_RUN_MS, options.answers);
    const rates = new Rates((what, perSecond) =>
      run.failed("no request loop over 10 a second", `${what}: ${perSecond}/s`)
    );
    const ground = resources.use(await Ground.open(forger, rates));
    const run = new Run(options, forger, rates, ground, resources.move());
    return run;
  }

  failed(property: Property, what: string): void {
    const all = this.#failures.get(property) ?? [];
    if (all.length < 5) this.#print(`FAIL ${property}: ${what.slice(0, 2_000)}`);
    if (all.length < 20) all.push(`${what}\n  last changed: ${this.#lastChanges()}`);
    this.#failures.set(property, all);
  }

  /** All rounds, again and again, until the time is over or the operator is. */
  async go(): Promise<void> {
    const { forMs, rounds } = this.#options;
    await this.#calm();
    const chosen = ROUNDS.filter(({ name }) => rounds?.includes(name) ?? true);
    const roundMs = Math.min(20_000, forMs / chosen.length);
    let leftMs = forMs;
    const until = performance.now() + 2 * forMs + 2 * this.#patienceMs;
    for (let index = 0; leftMs > 0; index += 1) {
      if (this.#isOver()) return;
      // What has ended it once must not do so at the next start.
      if (this.#ended && !await this.#live()) return;
      if (performance.now() > until) {
        this.failed("a command is obeyed afterwards", "it took more time to get well than to become ill");
        return;
      }
      const round = chosen[index % chosen.length];
      if (round === undefined) throw new Error(`Cannot fuzz: there is no round of ${rounds}`);
      const ms = Math.min(roundMs, leftMs);
      leftMs -= ms;
      await (round.starting ? this.#start(round, ms) : this.#round(round, ms));
    }
    if (!this.#isOver() && (!this.#ended || await this.#live())) await this.#measured();
  }

  /** What was looked for is found. */
  #isOver(): boolean {
    return this.#options.until?.some((property) => this.#failures.has(property)) ?? false;
  }

  async outcome(): Promise<Outcome> {
    let record: string | undefined;
    if (this.#failures.size > 0) {
      record = await Deno.makeTempFile({ prefix: `fuzz-${this.#options.seed}-`, suffix: ".json" });
      const log = this.#operator?.lines.slice(-200);
      await Deno.writeTextFile(
        record,
        JSON.stringify({ failures: [...this.#failures], ring: this.#forger.ring, log }, null, 1),
      );
    }
    return { failures: this.#failures, changes: this.#forger.names, record };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending = true;
    await this.#operator?.kill();
    await this.#resources.disposeAsync();
  }

  /** Without any change: what store and heap are, after a life and a half. */
  async #calm(): Promise<void> {
    if (!await this.#live()) throw new Error(`Cannot fuzz: ${this.#failures.get("no exit")}`);
    for (let warm = 0; warm < 3; warm += 1) await this.#obeys("before the fuzz");
    await this.#stop();
    this.#store = folderSize(this.#ground.place.store);
    await this.#live();
    await this.#obeys("before the fuzz");
    const memory = await this.#memory();
    if (memory === undefined) throw new Error(`Cannot fuzz: ${this.#failures.get("no exit")}`);
    const { heap, rss } = memory;
    this.#heap = heap;
    this.#disk = folderSize(this.#ground.place.store);
    this.#rates.begin();
    this.#print(
      `begins with a store of ${mb(this.#store)} (${mb(this.#disk)} on the disk), a heap of ${mb(heap)}, RSS ${
        mb(rss)
      }; seed ${this.#options.seed}`,
    );
  }

  async #measured(): Promise<void> {
    const memory = await this.#memory();
    if (memory === undefined) return;
    const { heap, rss } = memory;
    if (heap - this.#heap > MAX_HEAP_MB * MEBI) this.failed("heap within 10 MB", `${mb(this.#heap)} → ${mb(heap)}`);
    const disk = folderSize(this.#ground.place.store);
    await this.#stop();
    const store = folderSize(this.#ground.place.store);
    const sizes = [["while it is down", this.#store, store], ["while it runs", this.#disk, disk]] as const;
    for (const [when, before, after] of sizes) {
      if (after - before > MAX_STORE_MB * MEBI) {
        this.failed("store within 2 MB", `${when}: ${mb(before)} → ${mb(after)}`);
      }
    }
    this.#print(`ends with a store of ${mb(store)} (${mb(disk)} on the disk), a heap of ${mb(heap)}, RSS ${mb(rss)}`);
  }

  /** Starts it with the servers' own answers; returns whether it is ready. */
  async #live(): Promise<boolean> {
    const probe = new URL("probe.ts", import.meta.url).pathname;
    const operator = this.#process({
      flags: ["--v8-flags=--expose-gc", "--preload", probe],
      environment: { HTTP_ADDRESS: this.#health },
    });
    operator.onLine = (line) => this.#hears(line);
    this.#operator = operator;
    this.#ended = false;
    void operator.ended.then((code) => {
      if (this.#ending || this.#operator !== operator) return;
      this.#ended = true;
      this.failed("no exit", `exit code ${code}\n${operator.lines.slice(-12).join("\n")}`);
    });
    const late = AbortSignal.timeout(this.#patienceMs);
    const isReady = await Promise.race([operator.ready.then(() => true, () => false), aborted(late)]);
    this.#heardAt = performance.now();
    if (isReady) return true;
    this.failed("a command is obeyed afterwards", `not ready after a start\n${operator.lines.slice(-15).join("\n")}`);
    return false;
  }

  #process(options: Partial<OperatorOptions>): OperatorProcess {
    const { root } = this.#options;
    const environment = { ...this.#ground.environment, ...options.environment };
    return new OperatorProcess({ ...options, environment, ...(root === undefined ? {} : { root }) });
  }

  async #stop(): Promise<void> {
    const operator = this.#operator;
    this.#operator = undefined;
    const code = await operator?.stop();
    if (code !== 0) {
      this.failed("no exit", `exit code ${code} when asked to stop\n${operator?.lines.slice(-12).join("\n")}`);
    }
  }

  /** There is still somebody to ask, and something to find. */
  #isAlive(): boolean {
    return !this.#ended && !this.#isOver();
  }

  /** Nothing was heard of it for too long, and it has to be killed. */
  async #hangs(): Promise<void> {
    const operator = this.#operator;
    this.failed(
      "no hang",
      `nothing was heard of it for ${HANG_MS / 1_000} s\n${operator?.lines.slice(-12).join("\n")}`,
    );
    this.#operator = undefined;
    this.#ended = true;
    await operator?.kill();
  }

  async #round({ name, endpoints }: Round, ms: number): Promise<void> {
    const { place } = this.#ground;
    const roomId = await this.#room(place.operatorId);
    await using guest = await this.#guest(roomId);
    const before = new Map(this.#forger.counts);
    this.#forger.active = new Set(endpoints);
    const end = performance.now() + ms;
    while (performance.now() < end && this.#isAlive()) {
      await this.#act(roomId);
      await this.#isHealthy(false);
      await new Promise((resolve) => setTimeout(resolve, ACTIVITY_MS));
    }
    this.#ground.heal(this.#forger);
    const recovered = performance.now();
    if (this.#isAlive()) await this.#obeys(`after a round of ${name}`);
    const took = ((performance.now() - recovered) / 1_000).toFixed(1);
    await guest.leave(roomId);
    await place.anna.leave(roomId);
    this.#look();
    await this.#report(name, before, this.#ended ? "it has ended" : `well again after ${took} s`);
  }

  /** Commands, chatter, invitations. */
  async #act(roomId: string): Promise<void> {
    const { anna, operatorId } = this.#ground.place;
    const turn = this.#spoken++;
    await anna.say(roomId, WORDS[turn % WORDS.length] ?? "");
    if (turn % 3 === 0) await anna.api.request("POST", "/createRoom", { invite: [operatorId], preset: "private_chat" });
    // A watch lasts for minutes: another one is begun.
    if (turn % 5 === 0 && this.#forger.active.has("watch")) this.#ground.cluster.interrupt();
    // Everybody's next message needs a key of its own, and the operator's devices are looked up anew.
    if (turn % 4 === 0) await anna.crypto.forgetSession(roomId);
  }

  /** A member who is not obeyed, with a phone to claim keys of. */
  async #guest(roomId: string): Promise<Person> {
    const { homeserver, anna } = this.#ground.place;
    const user = `guest${this.#spoken}`;
    homeserver.register(user, "pw");
    const guest = await Person.login({ url: homeserver.url, user, password: "pw" });
    await anna.invite(roomId, guest.userId);
    await guest.join(roomId);
    return guest;
  }

  /** A new operator, of a new account, is started while what it is told at its start is changed. */
  async #start({ name, endpoints }: Round, ms: number): Promise<void> {
    const { place, wellKnown } = this.#ground;
    const turn = this.#starts++;
    const user = `starter${turn}`;
    const userId = place.homeserver.register(user, "secret");
    const folder = await Deno.makeTempDir({ prefix: "fuzz-start-" });
    const { port } = new URL(wellKnown.url);
    const alias = await this.#aliased(user);
    const environment = {
      MATRIX_USER: user,
      MATRIX_PASSWORD: "secret",
      CRYPTO_STORE_PATH: `${folder}/store`,
      RECOVERY_KEY: encodeRecoveryKey(new Uint8Array(32).fill(turn + 1)),
      ALLOWED_ROOMS: alias.alias,
      ...(turn % 2 === 0 ? { MATRIX_HOMESERVER: `localhost:${port}` } : {}),
      ...(turn % 3 === 1 ? { AUTH_METHOD: "token", MATRIX_ACCESS_TOKEN: await this.#token(user) } : {}),
    };
    const before = new Map(this.#forger.counts);
    let starts = 0;
    let since = 0;
    const begin = () => {
      starts += 1;
      since = this.#forger.names.length;
      return this.#process({ environment });
    };
    /** Whether it has ended for a reason that it may end for. */
    const mayEnd = (code: number, lines: readonly string[]) => {
      const told = this.#forger.names.slice(since).some((each) => MAY_END.includes(each.replace(/#.*$/, "")));
      const is = (code === 1 || code === 2) && told && !lines.some((line) => / fatal /.test(line));
      if (!is) this.failed("no exit", `exit code ${code} at a start\n${lines.slice(-12).join("\n")}`);
    };
    this.#forger.active = new Set(endpoints);
    let operator = begin();
    try {
      const end = performance.now() + ms;
      while (performance.now() < end && this.#isAlive()) {
        const left = AbortSignal.timeout(Math.max(1, Math.min(LIFE_MS, end - performance.now())));
        const code = await Promise.race([
          operator.ended,
          aborted(left),
          operator.ready.then(() => undefined, () => operator.ended),
        ]);
        if (code === undefined && performance.now() < end) {
          await operator.kill();
          operator = begin();
        } else if (code !== undefined) {
          mayEnd(code, operator.lines);
          await new Promise((resolve) => setTimeout(resolve, ACTIVITY_MS));
          operator = begin();
        }
      }
      this.#ground.heal(this.#forger);
      const recovered = performance.now();
      const first = await Promise.race([
        operator.ready.then(() => undefined, () => operator.ended),
        aborted(AbortSignal.timeout(this.#patienceMs)),
      ]);
      if (first !== undefined) {
        mayEnd(first, operator.lines);
        operator = begin();
      }
      const second = await Promise.race([
        operator.ready.then(() => "ready"),
        operator.ended,
        aborted(AbortSignal.timeout(this.#patienceMs)),
      ])
        .catch((error) => String(error));
      if (second !== "ready") {
        this.failed(
          "a command is obeyed afterwards",
          `not ready after a round of ${name}: ${second}\n${operator.lines.slice(-15).join("\n")}`,
        );
      } else if (await this.#answers(userId, alias.roomId) === undefined) {
        this.failed(
          "a command is obeyed afterwards",
          `no answer after a round of ${name}\n${operator.lines.slice(-15).join("\n")}`,
        );
      }
      await this.#report(
        name,
        before,
        `${starts} starts, well again after ${((performance.now() - recovered) / 1_000).toFixed(1)} s`,
      );
    } finally {
      await operator.kill();
      await Deno.remove(folder, { recursive: true });
    }
  }

  async #token(user: string): Promise<string> {
    const body = { type: "m.login.password", identifier: { type: "m.id.user", user }, password: "secret" };
    return String((await this.#ground.place.anna.api.request("POST", "/login", body))["access_token"]);
  }

  async #aliased(name: string): Promise<{ alias: string; roomId: string }> {
    const { anna } = this.#ground.place;
    const roomId = await anna.createRoom([], { room_alias_name: name });
    return { alias: `#${name}:localhost`, roomId };
  }

  get #patienceMs(): number {
    return this.#long ? LONG_RECOVERY_MS : RECOVERY_MS;
  }

  /** With the servers' own answers, a command changes the target, and what was done is told. */
  async #obeys(when: string): Promise<void> {
    const { place } = this.#ground;
    const until = performance.now() + this.#patienceMs;
    await this.#isHealthy(true);
    const roomId = await this.#room(place.operatorId, until);
    for (const [word, replicas] of [["start", 1], ["stop", 0]] as const) {
      if (await this.#does(roomId, word, replicas, until)) continue;
      const log = this.#operator?.lines.slice(-15).join("\n");
      this.failed("a command is obeyed afterwards", `${when}: ${word}, and ${place.replicas} replicas\n${log}`);
      break;
    }
    await place.anna.leave(roomId);
  }

  /**
   * Whether a command is answered and has its effect. What was commanded before, in another room, may be carried out right
   * after it: then the last word is said again.
   */
  async #does(roomId: string, word: string, replicas: number, until: number): Promise<boolean> {
    const { place } = this.#ground;
    for (;;) {
      const [before, effects] = [place.replicas, place.effects.length];
      if (await this.#answers(place.operatorId, roomId, word, until) === undefined) return false;
      if (place.replicas === replicas) return true;
      const wasThere = before === replicas || place.effects.slice(effects).includes(replicas);
      if (!wasThere || performance.now() > until) return false;
    }
  }

  /** Says a word until it is answered: the operator may just be learning who is there. */
  async #answers(
    operatorId: string,
    roomId: string,
    word = "status",
    until = performance.now() + this.#patienceMs,
  ): Promise<Message | undefined> {
    const { anna } = this.#ground.place;
    if (!anna.members(roomId, "join", "invite").includes(operatorId)) await anna.invite(roomId, operatorId);
    while (performance.now() < until && this.#isAlive()) {
      const eventId = await anna.say(roomId, word);
      const told = () =>
        anna.messages(roomId).find((message) =>
          message.sender === operatorId && message.about === eventId && message.kind === "notice" &&
          firstAnswer(message) !== undefined
        );
      const answer = await anna.until(told, 15_000).catch(() => undefined);
      if (answer !== undefined) return answer;
    }
    return undefined;
  }

  /** A new encrypted room of Anna and the operator; returned as soon as it has joined, or the time is over. */
  async #room(operatorId: string, until = performance.now() + this.#patienceMs): Promise<string> {
    const { anna } = this.#ground.place;
    const roomId = await anna.createRoom([operatorId]);
    const isThere = () => anna.members(roomId).includes(operatorId) || !this.#isAlive() || undefined;
    await anna.until(isThere, Math.max(1, until - performance.now())).catch(() => undefined);
    return roomId;
  }

  /** Asks for its health once, or until it is well. */
  async #isHealthy(now: boolean): Promise<void> {
    const until = performance.now() + (now ? this.#patienceMs : 0);
    for (;;) {
      const answer = await fetch(`http://${this.#health}/healthz`, { signal: AbortSignal.timeout(1_000) }).catch((
        error,
      ) => error);
      if (answer instanceof Response) {
        await answer.body?.cancel();
        this.#heardAt = performance.now();
      } else if (this.#isAlive()) this.failed("health answers within a second", String(answer));
      if (!this.#isAlive()) return;
      if (performance.now() > this.#heardAt + HANG_MS) return await this.#hangs();
      if (!now || (answer instanceof Response && answer.ok)) return;
      if (performance.now() > until) return this.failed("health answers within a second", `/healthz: ${answer.status}`);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }

  /** What the probe tells. */
  #hears(line: string): void {
    if (line.startsWith("memory ")) this.#told(line.slice(7));
    if (!line.startsWith("held ")) return;
    const ms = Number(line.slice(5));
    if (ms > this.#held) this.#held = ms;
    if (ms > HELD_MS) this.#print(`held the event loop for ${ms} ms; last changed: ${this.#lastChanges()}`);
  }

  #look(): void {
    const bad = this.#operator?.lines.find((line) => /nothing more is written|[Uu]nhandled|Uncaught/.test(line));
    if (bad !== undefined) this.failed("no unhandled rejection", bad);
  }

  /** What it says of its memory; undefined if it has ended, or hangs, which is a failure. */
  async #memory(): Promise<{ heap: number; rss: number } | undefined> {
    const operator = this.#operator;
    if (operator?.running !== true) return undefined;
    const { promise, resolve } = Promise.withResolvers<{ rss: number; heapUsed: number }>();
    this.#told = (told) => resolve(JSON.parse(told));
    operator.signal("SIGUSR2");
    const late = aborted(AbortSignal.timeout(HANG_MS)).then(() => "late" as const);
    const told = await Promise.race([promise, operator.ended.then(() => undefined), late]);
    if (told === "late") await this.#hangs();
    return told === "late" || told === undefined ? undefined : { heap: told.heapUsed, rss: told.rss };
  }

  #lastChanges(): string {
    return this.#forger.ring.slice(-12).map(({ name, how }) => `${name} (${how})`).join(", ");
  }

  async #report(name: string, before: ReadonlyMap<string, number>, more: string): Promise<void> {
    const counts = [...this.#forger.counts].map(([endpoint, count]) =>
      [endpoint, count - (before.get(endpoint) ?? 0)] as const
    )
      .filter(([, count]) => count > 0).map(([endpoint, count]) => `${endpoint} ${count}`).join(", ");
    const most = [...this.#rates.most].reduce((one, other) => other[1] > one[1] ? other : one, ["", 0]);
    this.#rates.most.clear();
    const rss = this.#isAlive() ? (await this.#memory())?.rss : undefined;
    const held = this.#held > 0 ? `held ${this.#held} ms; ` : "";
    this.#held = 0;
    const sizes = rss === undefined ? "" : `RSS ${mb(rss)}, store ${mb(folderSize(this.#ground.place.store))}; `;
    this.#print(`${name}: changed ${counts}; at most ${most[1]}/s (${most[0]}); ${held}${sizes}${more}`);
  }

  #print(line: string): void {
    this.#options.print?.(line);
  }
}

function aborted(signal: AbortSignal): Promise<undefined> {
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(undefined)));
}

function mb(bytes: number): string {
  return `${(bytes / MEBI).toFixed(1)} MB`;
}

function folderSize(folder: string): number {
  return [...Deno.readDirSync(folder)].reduce((sum, { name, isDirectory }) => {
    const path = `${folder}/${name}`;
    return sum + (isDirectory ? folderSize(path) : Deno.statSync(path).size);
  }, 0);
}
