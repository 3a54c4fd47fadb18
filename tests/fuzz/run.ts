/**
 * Fuzz run against the real operator: rounds of changed responses while people talk to it. After each round, the
 * operator must be healthy.
 *
 * @module
 */

import { encodeRecoveryKey } from "../../lib/config/mod.ts";
import { freePort } from "../../testbed/network.ts";
import { firstAnswer, type Message, Person } from "../../sandbox/person/mod.ts";
import { type OperatorOptions, OperatorProcess } from "../operator_process.ts";
import { Forger } from "./forger.ts";
import { Ground, Rates } from "./ground.ts";
import { folderSize, logSize, mb, overgrown, overgrownLogs, type StoreSize, storeSize } from "./store_size.ts";

const MEBI = 2 ** 20;
/** Permitted growth of the heap. */
const MAX_HEAP_MB = 10;
/** Time to recover after a round: our longest backoff, one request in flight, and a margin. */
const RECOVERY_MS = 60_000;
/** Recovery time in long runs. Matches the cap on waits that servers ask for. */
const LONG_RECOVERY_MS = 6 * 60_000;
/** Silence after which the operator is considered hung. */
const HANG_MS = 15_000;
/** Blocking of the event loop, in milliseconds, from which its cause is printed. */
const HELD_MS = 500;
/** Blocking of our own event loop, in milliseconds, from which an answer may have come in time and been seen too late. */
const OWN_HELD_MS = 200;
const OWN_TICK_MS = 20;
/** Duration from which a run includes long waits. */
const LONG_RUN_MS = 10 * 60_000;
const ACTIVITY_MS = 400;
/** Lifetime of an operator whose startup is fuzzed. Starting another one is more useful than waiting for a backoff. */
const LIFE_MS = 3_000;
const WORDS = ["start", "status", "stop", "help", "hello", "start 2h"];

/** Options of {@linkcode fuzz}. */
export interface FuzzOptions {
  /** Determines all changes. */
  readonly seed: number;
  /** How long it runs, in milliseconds. Each round runs at least once. */
  readonly forMs: number;
  /** Names of the rounds to run. Default: all. */
  readonly rounds?: readonly string[] | undefined;
  /** Names of the responses to change. Default: all. */
  readonly answers?: readonly string[] | undefined;
  /** Folder of the program. Default: the project root. */
  readonly root?: string;
  /** Stops at the first failure of one of these. */
  readonly until?: readonly Property[];
  /** Receives progress messages. */
  readonly print?: (line: string) => void;
}

/** Properties that the operator must have. */
export const PROPERTIES = [
  "no exit",
  "no hang",
  "no unhandled rejection",
  "no request loop over 10 a second",
  "health answers within a second",
  "a command is obeyed afterwards",
  "store within 2 MB and 2 KB an event of allowed users",
  "heap within 10 MB",
] as const;
export type Property = (typeof PROPERTIES)[number];

/** Result of {@linkcode fuzz}. */
export interface Outcome {
  /** Failures by property. Empty if there are none. */
  readonly failures: ReadonlyMap<Property, readonly string[]>;
  /** Names of the changed responses, oldest first. */
  readonly changes: readonly string[];
  /** File with the latest changed responses, if there was a failure. */
  readonly record: string | undefined;
}

interface Round {
  readonly name: string;
  readonly endpoints: readonly string[];
  /** Whether the round fuzzes the startup of new operators, each with its own store. */
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
/** Endpoints whose responses may end the program: they can refuse the login or report a configuration error. */
const MAY_END = ["login", "whoami", "well-known", "account_data"];

/** Runs the fuzz. Returns early if continuing makes no sense. */
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
  /** Initial sizes: of the stopped operator's store, of the running one's write-ahead logs, and of its heap. */
  #store: StoreSize | undefined;
  #logs = 0;
  #heap = 0;
  /** Number of rooms that an allowed user has invited the operator to. */
  #rooms = 0;
  #starts = 0;
  #spoken = 0;
  /** Longest blocking of the event loop in the current round, in milliseconds. */
  #held = 0;
  #told: (memory: string) => void = () => {};
  /** Time of the first request to its health server that was not answered since the last one that was. */
  #silentSince: number | undefined;
  readonly #own = new OwnHold();
  /** Whether the operator has exited by itself. */
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
    const words = what.length > 2_000 ? `${what.slice(0, 200)}\n…\n${what.slice(-1_800)}` : what;
    if (all.length < 5) this.#print(`FAIL ${property}: ${words}; last changed: ${this.#lastChanges()}`);
    if (all.length < 20) all.push(`${what}\n  last changed: ${this.#lastChanges()}`);
    this.#failures.set(property, all);
  }

  /** Runs all rounds, repeatedly until the time is over. */
  async go(): Promise<void> {
    const { forMs, rounds } = this.#options;
    await this.#calm();
    const chosen = ROUNDS.filter(({ name }) => rounds?.includes(name) ?? true);
    const roundMs = Math.min(20_000, forMs / chosen.length);
    const end = performance.now() + forMs;
    for (let index = 0; index < chosen.length || performance.now() < end; index += 1) {
      if (this.#isOver()) return;
      // An input that ended it once must not end it again at the next start.
      if (this.#ended && !await this.#live()) return;
      const round = chosen[index % chosen.length];
      if (round === undefined) throw new Error(`Cannot fuzz: there is no round of ${rounds}`);
      await (round.starting ? this.#start(round, roundMs) : this.#round(round, roundMs));
    }
    if (!this.#isOver() && (!this.#ended || await this.#live())) await this.#measured();
  }

  /** Reports whether a failure of the wanted property was found. */
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
    this.#own[Symbol.dispose]();
    await this.#operator?.kill();
    await this.#resources.disposeAsync();
  }

  /** Measures store and heap without changed responses, after one and a half lives of the operator. */
  async #calm(): Promise<void> {
    if (!await this.#live()) throw new Error(`Cannot fuzz: ${this.#failures.get("no exit")}`);
    for (let warm = 0; warm < 3; warm += 1) await this.#obeys("before the fuzz");
    await this.#stop();
    this.#store = this.#storeSize();
    await this.#live();
    await this.#obeys("before the fuzz");
    const memory = await this.#memory();
    if (memory === undefined) throw new Error(`Cannot fuzz: ${this.#failures.get("no exit")}`);
    this.#heap = memory.heap;
    this.#logs = logSize(this.#ground.place.store);
    this.#rooms = 0;
    this.#rates.begin();
    const sizes = toldSizes(this.#store, this.#logs, memory);
    this.#print(`begins with ${sizes}; seed ${this.#options.seed}`);
  }

  async #measured(): Promise<void> {
    const memory = await this.#memory();
    if (memory === undefined || this.#store === undefined) return;
    const { heap } = memory;
    if (heap - this.#heap > MAX_HEAP_MB * MEBI) this.failed("heap within 10 MB", `${mb(this.#heap)} → ${mb(heap)}`);
    const logs = logSize(this.#ground.place.store);
    await this.#stop();
    const store = this.#storeSize();
    this.#print(`ends with ${toldSizes(store, logs, memory)}; ${this.#rooms} rooms were made`);
    for (const what of [...overgrown(this.#store, store, this.#rooms), ...overgrownLogs(this.#logs, logs)]) {
      this.failed("store within 2 MB and 2 KB an event of allowed users", what);
    }
  }

  #storeSize(): StoreSize {
    const { store, anna } = this.#ground.place;
    return storeSize(store, anna.userId);
  }

  /** Starts the operator with unchanged responses. Returns whether it became ready. */
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
    this.#silentSince = undefined;
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

  /** Reports whether the operator runs and the run should continue. */
  #isAlive(): boolean {
    return !this.#ended && !this.#isOver();
  }

  /** Records a hang and kills the operator. */
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

  /** Sends commands, chatter and invitations. */
  async #act(roomId: string): Promise<void> {
    const { anna, operatorId } = this.#ground.place;
    const turn = this.#spoken++;
    await anna.say(roomId, WORDS[turn % WORDS.length] ?? "");
    if (turn % 3 === 0) {
      await anna.api.request("POST", "/createRoom", { invite: [operatorId], preset: "private_chat" });
      this.#rooms += 1;
    }
    // A watch lasts for minutes, so it is interrupted to start a new one.
    if (turn % 5 === 0 && this.#forger.active.has("watch")) this.#ground.cluster.interrupt();
    // Makes everyone's next message need a new room key, and the operator's devices be queried again.
    if (turn % 4 === 0) await anna.crypto.forgetSession(roomId);
  }

  /** Adds a member who isn't allowed, with a device whose keys can be claimed. */
  async #guest(roomId: string): Promise<Person> {
    const { homeserver, anna } = this.#ground.place;
    const user = `guest${this.#spoken}`;
    homeserver.register(user, "pw");
    const guest = await Person.login({ url: homeserver.url, user, password: "pw" });
    await anna.invite(roomId, guest.userId);
    await guest.join(roomId);
    return guest;
  }

  /** Starts new operators with new accounts while the responses during startup are changed. */
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
    /** Checks that it has exited for a permitted reason. */
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
      // The room that an alias was said to be is believed until the next start.
      if (this.#forger.names.slice(since).some((each) => each.startsWith("directory#"))) {
        await operator.kill();
        operator = begin();
      }
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

  /** With unchanged responses, a command changes the target and its answer reports that. */
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
   * Reports whether a command is answered and takes effect. A previous command from another room may be executed right
   * after it; then the command is repeated.
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

  /** Repeats a message until it is answered. The operator may still be learning who is in the room. */
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

  /** Creates an encrypted room of Anna and the operator. Returns when the operator has joined or the time is over. */
  async #room(operatorId: string, until = performance.now() + this.#patienceMs): Promise<string> {
    const { anna } = this.#ground.place;
    const roomId = await anna.createRoom([operatorId]);
    this.#rooms += 1;
    const isThere = () => anna.members(roomId).includes(operatorId) || !this.#isAlive() || undefined;
    await anna.until(isThere, Math.max(1, until - performance.now())).catch(() => undefined);
    return roomId;
  }

  /** Checks the health once, or, with `now`, until it is good. */
  async #isHealthy(now: boolean): Promise<void> {
    const until = performance.now() + (now ? this.#patienceMs : 0);
    for (;;) {
      const asked = performance.now();
      this.#own.begin();
      const answer = await fetch(`http://${this.#health}/healthz`, { signal: AbortSignal.timeout(1_000) }).catch((
        error,
      ) => error);
      if (answer instanceof Response) {
        await answer.body?.cancel();
        this.#silentSince = undefined;
      } else if (this.#isAlive() && this.#own.longestMs() < OWN_HELD_MS) {
        this.failed("health answers within a second", String(answer));
        this.#silentSince ??= asked;
        if (performance.now() > this.#silentSince + HANG_MS) return await this.#hangs();
      }
      if (!this.#isAlive()) return;
      if (!now || (answer instanceof Response && answer.ok)) return;
      if (performance.now() > until) return this.failed("health answers within a second", `/healthz: ${answer.status}`);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }

  /** Handles a line of the probe. */
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

  /** Returns the operator's memory usage, or undefined if it has exited or hangs. A hang is recorded as a failure. */
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

/** Measures how long the event loop of this process is blocked. */
class OwnHold implements Disposable {
  #longestMs = 0;
  #tickAt = performance.now();
  readonly #ticks = setInterval(() => this.#tick(), OWN_TICK_MS);

  /** Begins to measure. */
  begin(): void {
    this.#tickAt = performance.now();
    this.#longestMs = 0;
  }

  /** Returns the longest blocking since the beginning, in milliseconds. */
  longestMs(): number {
    this.#tick();
    return this.#longestMs;
  }

  #tick(): void {
    const now = performance.now();
    this.#longestMs = Math.max(this.#longestMs, now - this.#tickAt - OWN_TICK_MS);
    this.#tickAt = now;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#ticks);
  }
}

function aborted(signal: AbortSignal): Promise<undefined> {
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(undefined)));
}

function toldSizes(
  { databases, journal, events }: StoreSize,
  logs: number,
  { heap, rss }: { readonly heap: number; readonly rss: number },
): string {
  const store = `a store of ${mb(databases)}, a journal of ${mb(journal)} (${events} events), logs of ${mb(logs)}`;
  return `${store}, a heap of ${mb(heap)}, RSS ${mb(rss)}`;
}
