/**
 * A world for the operator, in memory: a clock that the test moves, the real store, a chat and a scaler. The store, what
 * was said and the cluster outlive an operator; a life of an operator can be ended at any call of a port.
 *
 * @module
 */

import assert from "node:assert/strict";
import { setImmediate } from "node:timers";
import { Backoff, type Clock } from "../../lib/async.ts";
import { ConflictError, NotFoundError, PermissionError, StoreError } from "../../lib/errors.ts";
import {
  type Chat,
  type CommandRecord,
  type Entry,
  type Journal,
  Operator,
  type OperatorConfig,
  type OperatorOptions,
  type Rollouts,
  type Scaler,
} from "../../lib/operator/mod.ts";
import type {
  Answer,
  Identity,
  InboxEvent,
  Invitation,
  ListedDevice,
  Payload,
  Published,
  RoomFacts,
  SenderFacts,
} from "../../lib/session/mod.ts";
import type { Diagnosis, Scale } from "../../lib/scaler/mod.ts";
import type { Pin, Pins } from "../../lib/authorization/mod.ts";
import type { StoredCommand } from "../../lib/operator/target_command.ts";
import type { Target } from "../../lib/config/mod.ts";
import type { TargetDocument } from "../../lib/operator/target_state.ts";
import { openMemoryStore, type Store, transactionId } from "../../lib/store/mod.ts";

export const self = "@claw:example.org";
export const alice = "@alice:example.org";
export const mallory = "@mallory:example.org";
export const room = "!room:example.org";

export const clawdbot: Target = { alias: "clawdbot", kind: "deployment", namespace: "clawdbot", name: "clawdbot" };
export const ollama: Target = { alias: "ollama", kind: "statefulset", namespace: "models", name: "ollama" };

export const config: OperatorConfig = {
  allowedUsers: new Set([alice, "@bob:example.org"]),
  allowedRooms: new Set(),
  targets: [clawdbot],
  echo: "off",
  requireEncryption: true,
  maxCommandAgeMs: 300_000,
  startTimeoutMs: 600_000,
  startReplicas: 1,
  autoStopMs: undefined,
  schedule: [],
  agents: [],
  idleStopMs: undefined,
  senderTrust: "tofu",
  trustedIdentities: new Map(),
};

/** Alice's signed device. */
export const phone: ListedDevice = { deviceId: "PHONE", ed25519: "key of PHONE", crossSignedByOwner: true };

/** A published identity whose master key nobody has signed. */
export function identity(masterKey: string): Identity {
  return { masterKey, crossSigningKey: {} };
}

/** What the crypto says of a device that nothing is wrong with. */
export const goodSender: SenderFacts = {
  deviceId: "PHONE",
  mismatchedSender: false,
  authenticityNotGuaranteed: false,
  forwardedBy: undefined,
  device: { ...phone, deleted: false, sameKeysAsSession: true },
  identity: identity("master"),
  devices: [phone],
};

/** What is different about a room, with its members as a list. */
export type RoomChanges = Partial<RoomFacts> & { readonly joined?: readonly string[] };

/** What a room's facts say of its joined members. */
export function membersOf(joined: readonly string[]): Pick<RoomFacts, "joinedCount" | "isJoined" | "nameOf"> {
  return { joinedCount: joined.length, isJoined: (user) => joined.includes(user), nameOf: () => undefined };
}

const noPods = { desired: 0, current: 0, ready: 0, available: 0 };
const none: Scale = { ...noPods, settled: true, resourceVersion: "1", generation: 1 };

/** Fakes do nothing but promises, so that after one turn of the event loop all of them have come to rest. */
export function settled(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}

/** A clock that stands still until it is moved. */
export class FakeClock implements Clock {
  nowMs = 1_000_000_000;
  /** How long was waited, in the order of beginning. */
  readonly waits: number[] = [];
  #sleepers: { readonly untilMs: number; readonly wake: () => void }[] = [];

  now(): number {
    return this.nowMs;
  }

  sleep(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      this.waits.push(ms);
      const sleeper = { untilMs: this.nowMs + ms, wake: resolve };
      this.#sleepers.push(sleeper);
      signal.addEventListener("abort", () => {
        this.#sleepers = this.#sleepers.filter(({ wake }) => wake !== resolve);
        reject(signal.reason);
      });
    });
  }

  /** Sleepers that nobody has woken: none must be left when all is done. */
  get sleeping(): number {
    return this.#sleepers.length;
  }

  /** Somebody sets it forward, or back; whoever sleeps goes by another clock. */
  set(byMs: number): void {
    this.nowMs += byMs;
    this.#sleepers = this.#sleepers.map(({ untilMs, wake }) => ({ untilMs: untilMs + byMs, wake }));
  }

  /** Moves on, waking everyone in their order. */
  async advance(ms: number): Promise<void> {
    const untilMs = this.nowMs + ms;
    for (;;) {
      await settled();
      const [next] = this.#sleepers.toSorted((one, other) => one.untilMs - other.untilMs);
      if (next === undefined || next.untilMs > untilMs) break;
      this.#sleepers = this.#sleepers.filter((other) => other !== next);
      this.nowMs = Math.max(this.nowMs, next.untilMs);
      next.wake();
    }
    this.nowMs = untilMs;
  }
}

/** The process is gone: nothing can be dealt with any more. */
export class Killed extends StoreError {
  /** Where; of calls that were made after it, too. */
  readonly point: string;

  constructor(point: string) {
    super(`killed ${point}`, "");
    this.point = point;
  }
}

/** One life of an operator. Ends at a call of a port, `before` or `after` which it is killed. */
class OperatorRun {
  readonly #killAt: string | undefined;
  readonly #onDurable: (call: string) => void;
  #dead = false;

  constructor(killAt: string | undefined, onDurable: (call: string) => void) {
    this.#killAt = killAt;
    this.#onDurable = onDurable;
  }

  get dead(): boolean {
    return this.#dead;
  }

  sync<T>(name: string, call: () => T): T {
    this.#check(`before ${name}`);
    this.#onDurable(name);
    const result = call();
    this.#check(`after ${name}`);
    return result;
  }

  async async<T>(name: string, call: () => T | Promise<T>): Promise<T> {
    this.#check(`before ${name}`);
    await Promise.resolve();
    const result = await call();
    this.#check(`after ${name}`);
    return result;
  }

  #check(point: string): void {
    if (point === this.#killAt) this.#dead = true;
    if (this.#dead) throw new Killed(point);
  }
}

/** How a message arrives. */
export type Message = Partial<Omit<InboxEvent, "seq">> & { readonly payload?: Payload; readonly gap?: number };

/** What was said in a room. */
export interface SentMessage {
  readonly roomId: string;
  readonly kind: Answer["kind"];
  readonly about: string;
  readonly plain: string;
  readonly answer: Answer;
  readonly replaces: string | undefined;
}

export class World {
  readonly clock = new FakeClock();
  readonly config: OperatorConfig;

  /** What lasts. */
  readonly store: Store = openMemoryStore(() => this.clock.nowMs);
  /** How events were settled, by event id. */
  readonly #outcomes = new Map<string, string>();
  /** By places in the journal. */
  readonly #eventIds = new Map<number, string>();
  #received = 0;
  readonly pins = new Map<string, Pin>();
  /** What the homeserver publishes of users. */
  readonly published = new Map<string, Published>();

  readonly rooms = new Map<string, RoomFacts>();
  readonly payloads = new Map<string, Payload>();
  /** Who sent events that are not in the inbox. */
  readonly senders = new Map<string, string>();
  /** Joined members of rooms, as the homeserver lists them when asked; where it would tell nothing new, left out. */
  readonly listedMembers = new Map<string, readonly string[]>();
  invitations: Invitation[] = [];
  /** How we are called. */
  names: readonly string[] = [self, "Claw"];
  /** What was said, by transaction id. */
  readonly sent = new Map<string, SentMessage>();
  /** Transaction ids under which something was said again, as a homeserver takes it that has forgotten them. */
  readonly sentAgain: string[] = [];
  readonly membershipCalls: string[] = [];

  /** Counts by alias. */
  readonly scales = new Map<string, Scale>([[clawdbot.alias, none], [ollama.alias, none]]);
  /** Changes of the counts that got through; of another target than the usual one with its alias. */
  readonly effects: (number | string)[] = [];

  readonly refusals: string[] = [];
  readonly records: CommandRecord[] = [];
  /** What the observer was told of each target. */
  readonly replicas = new Map<string, number>();
  /** Targets that became ready, and after how many milliseconds. */
  readonly durations: string[] = [];
  /** Starts of targets that were off, and why. */
  readonly wakeUps: string[] = [];
  /** Targets that became ready after a message, and after how many milliseconds. */
  readonly wakes: string[] = [];
  /** What was noted on targets. */
  readonly notes: string[] = [];
  /** What is in the way of targets. */
  diagnosis: Diagnosis = { problems: [], missingPermission: undefined };
  /** A watch is permitted. */
  mayWatch = true;
  /** Pods are ready as soon as they are wanted. */
  isPrompt = true;
  readonly #watchers = new Set<() => void>();
  /** Called before a port does something; may throw, wait, or change the world. */
  before: (call: string, detail: string, signal: AbortSignal | undefined) => void | Promise<void> = () => {};
  /** Told of each call that is on disk when it returns. */
  onDurable: (call: string) => void = () => {};
  /** Called when an event has been read, and nobody knows yet what came of it. */
  afterRead: (eventId: string) => void | Promise<void> = () => {};

  constructor(changes: Partial<OperatorConfig> = {}) {
    this.config = { ...config, ...changes };
    this.room(room);
  }

  /** Makes or changes a room; by default encrypted, with Alice and us in it. */
  room(roomId: string, { joined, ...changes }: RoomChanges = {}): void {
    const plain: RoomFacts = {
      roomId,
      membership: "join",
      encrypted: true,
      sendProblem: undefined,
      ...membersOf([alice, self]),
    };
    this.rooms.set(roomId, {
      ...plain,
      ...this.rooms.get(roomId),
      ...changes,
      ...joined === undefined ? {} : membersOf(joined),
    });
  }

  /** Puts a message into the inbox; by default encrypted, by Alice, from a good device; behind a gap where one is given. */
  receive(body: string, how: Message = {}): InboxEvent {
    const number = this.#received += 1;
    const { payload, gap, ...changes } = how;
    const encrypted = payload?.kind !== "clear";
    const event = {
      roomId: room,
      eventId: `$event${number}`,
      sender: alice,
      json: { type: encrypted ? "m.room.encrypted" : "m.room.message", content: { body: "…" } },
      receivedAtMs: this.clock.nowMs,
      ageMs: 0,
      ...changes,
    };
    this.store.rooms.addEvent(event, gap === undefined ? { state: "new" } : { state: "held", gap });
    this.payloads.set(event.eventId, payload ?? decrypted(body, { sessionId: "session", messageIndex: number }));
    return { seq: this.entry(number)?.event.seq ?? 0, ...event };
  }

  /** An agent is in a room. */
  hasAgent(roomId: string): boolean {
    return this.config.agents.some(({ userId }) => this.rooms.get(roomId)?.isJoined(userId));
  }

  /** The so-manieth message, as long as it is not settled, nor held behind a gap. */
  entry(number: number): Entry | undefined {
    return this.store.journal.unsettled<StoredCommand>(0).find(({ event }) => event.eventId === `$event${number}`);
  }

  /** What became of the so-manieth message. */
  outcome(number: number): string | undefined {
    return this.entry(number) === undefined ? this.#outcomes.get(`$event${number}`) : undefined;
  }

  /** What became of an answer. */
  stateOf(answer: Pick<Answer, "eventId" | "kind" | "sequence">): "unsent" | "sent" | "dropped" {
    const { journal } = this.store;
    const unsent = journal.roomsWithUnsentAnswers().flatMap((roomId) => journal.unsentAnswers(roomId, 1_000));
    if (unsent.some((each) => each.transactionId === transactionIdOf(answer))) return "unsent";
    return journal.sentAs(answer) === undefined ? "dropped" : "sent";
  }

  /** What is remembered of the targets. */
  get remembered(): TargetDocument | undefined {
    return this.store.targetDocument.load() as TargetDocument | undefined;
  }

  set remembered(document: TargetDocument | undefined) {
    if (document === undefined) this.store.targetDocument.clear();
    else this.store.targetDocument.save(document);
  }

  /** Plain texts said so far, in order; without edits. */
  get texts(): string[] {
    return [...this.sent.values()].filter(({ kind }) => kind !== "edit").map(({ plain }) => plain);
  }

  /** All that was said, in order: edits as `✎`, messages that ring as `!`. */
  get story(): string[] {
    return [...this.sent.values()].map(({ plain, answer: { kind, form } }) =>
      `${kind === "edit" ? "✎ " : form === "text" ? "! " : ""}${plain}`
    );
  }

  /** Starts an operator, which lives until it is ended or killed; with other targets where some are given. */
  start(killAt?: string, targets: readonly Target[] = this.config.targets): Running {
    const run = new OperatorRun(killAt, (call) => this.onDurable(call));
    return new Running(this, {
      chat: this.#chat(run),
      scaler: this.#scaler(run),
      rollouts: this.#rollouts(run),
      journal: this.#journal(run),
      targetDocument: {
        load: () => this.remembered,
        save: (remembered) => run.sync("save", () => void (this.remembered = remembered)),
      },
      transaction: (calls) => this.#transaction(run, calls),
      pins: this.#pins(run),
      config: { ...this.config, targets },
      clock: this.clock,
      newBackoff: (changes) =>
        new Backoff(
          {
            initialMs: 1_000,
            maxMs: 16_000,
            maxFailures: Infinity,
            minSpanMs: 0,
            resetAfterMs: Infinity,
            ...changes,
          },
          () => this.clock.now(),
          () => 1,
        ),
      observer: {
        retried: () => {},
        refused: (reason) => void this.refusals.push(reason),
        commanded: (record) => void this.records.push(record),
        undecryptable: () => void this.refusals.push("(undecryptable)"),
        scaled: () => {},
        wokeUp: (target, cause) => void this.wakeUps.push(`${target} by ${cause}`),
        ready: (target, ms) => void this.durations.push(`${target} ${ms}`),
        woken: (target, ms) => void this.wakes.push(`${target} ${ms}`),
        replicas: (target, { desired }) => void this.replicas.set(target, desired),
      },
    });
  }

  #journal(run: OperatorRun): Journal {
    const { journal } = this.store;
    const seen = <E extends Entry>(entries: readonly E[]): readonly E[] => {
      for (const { event } of entries) this.#eventIds.set(event.seq, event.eventId);
      return entries;
    };
    return {
      transaction: (calls) => this.#transaction(run, calls),
      unsettled: (afterSeq) => run.sync("unsettled", () => seen(journal.unsettled<StoredCommand>(afterSeq))),
      newEvents: (afterSeq) => run.sync("unsettled", () => seen(journal.newEvents(afterSeq))),
      awaitingKey: (roomId, sessionId) => seen(journal.awaitingKey<StoredCommand>(roomId, sessionId)),
      markUndecryptable: (seq, sessionId) => journal.markUndecryptable(seq, sessionId),
      claim: (seq, ciphertext) => run.sync("claim", () => journal.claim(seq, ciphertext)),
      saveCommand: (seq, command) => run.sync("saveCommand", () => journal.saveCommand(seq, command)),
      settle: (seq, outcome, answers) =>
        run.sync("settle", () => {
          journal.settle(seq, outcome, answers);
          this.#outcomes.set(this.#eventIds.get(seq) ?? "", outcome);
        }),
      queueAnswer: (answer) => run.sync("queueAnswer", () => journal.queueAnswer(answer)),
      roomsWithUnsentAnswers: () => journal.roomsWithUnsentAnswers(),
      unsentAnswers: (roomId, limit) => run.sync("unsentAnswers", () => journal.unsentAnswers<Answer>(roomId, limit)),
      markSent: (transactionId, eventId) => run.sync("markSent", () => journal.markSent(transactionId, eventId)),
      dropAnswer: (transactionId) => run.sync("dropAnswer", () => journal.dropAnswer(transactionId)),
      isOurs: (eventId) => journal.isOurs(eventId),
      sentAs: (answer) => journal.sentAs(answer),
    };
  }

  /** All of it lasts, or nothing. */
  #transaction<T>(run: OperatorRun, calls: () => T): T {
    return run.sync("transaction", () => this.store.transaction(calls));
  }

  #pins(run: OperatorRun): Pins {
    return {
      get: (userId) => this.pins.get(userId),
      set: (userId, pin) => run.sync("pin", () => void this.pins.set(userId, pin)),
    };
  }

  #chat(run: OperatorRun): Chat {
    const membership = (name: "join" | "leave") => (roomId: string, signal: AbortSignal): Promise<void> =>
      run.async(name, async () => {
        this.membershipCalls.push(`${name} ${roomId}`);
        await this.before(name, roomId, signal);
        this.invitations = this.invitations.filter((invitation) => invitation.roomId !== roomId);
        this.room(roomId, { membership: name });
      });
    const names = () => this.names;
    return {
      self,
      get names() {
        return names();
      },
      read: (event, signal) =>
        run.async("read", async () => {
          await this.before("read", event.eventId, signal);
          const payload = this.payloads.get(event.eventId);
          if (payload === undefined) throw new Error(`Cannot read ${event.eventId}`);
          await this.afterRead(event.eventId);
          return payload;
        }),
      published: (userId, signal) =>
        run.async("published", async () => {
          await this.before("published", userId, signal);
          return this.published.get(userId) ?? { identity: undefined, devices: [] };
        }),
      senderOf: (roomId, eventId, signal) =>
        run.async("senderOf", async () => {
          await this.before("senderOf", `${roomId} ${eventId}`, signal);
          return this.senders.get(eventId);
        }),
      room: (roomId) => this.rooms.get(roomId),
      refreshMembers: (roomId, signal) =>
        run.async("refreshMembers", async () => {
          await this.before("refreshMembers", roomId, signal);
          const joined = this.listedMembers.get(roomId);
          if (joined !== undefined) this.room(roomId, { joined });
        }),
      joinedRooms: () =>
        [...this.rooms.values()].filter(({ membership }) => membership === "join").map(({ roomId }) => roomId),
      invitations: () => this.invitations,
      invitation: (roomId) => this.invitations.find((each) => each.roomId === roomId),
      join: membership("join"),
      leave: membership("leave"),
      send: (transactionId, answer, replaces, signal) =>
        run.async("send", async () => {
          await this.before("send", answer.roomId, signal);
          const { roomId, kind, eventId: about, text: { plain } } = answer;
          if (this.sent.has(transactionId)) this.sentAgain.push(transactionId);
          else this.sent.set(transactionId, { roomId, kind, about, plain, answer, replaces });
          await this.before("said", roomId, signal);
          return `$${transactionId}`;
        }),
      findSent: (transactionId, roomId, signal) =>
        run.async("findSent", async () => {
          await this.before("findSent", roomId, signal);
          return this.sent.has(transactionId) ? `$${transactionId}` : undefined;
        }),
    };
  }

  #scaler(run: OperatorRun): Scaler {
    return {
      read: (target, signal) =>
        run.async("scaler.read", async () => {
          await this.before("scaler.read", target.alias, signal);
          return this.#scaleOf(target.alias);
        }),
      scale: (target, replicas, resourceVersion, signal) =>
        run.async("scale", async () => {
          await this.before("scale", `${target.alias} ${replicas}`, signal);
          const { alias } = target;
          if (resourceVersion !== this.#scaleOf(alias).resourceVersion) {
            throw new ConflictError("Cannot scale: changed");
          }
          this.setScale(replicas, alias);
          this.effects.push(alias === clawdbot.alias ? replicas : `${alias} ${replicas}`);
        }),
    };
  }

  #rollouts(run: OperatorRun): Rollouts {
    return {
      watch: (target, signal) => this.#watch(target, signal),
      diagnose: (target, _scale, signal) =>
        run.async("diagnose", async () => {
          await this.before("diagnose", target.alias, signal);
          return this.diagnosis;
        }),
      record: (target, { reason, message }, signal) =>
        run.async("record", async () => {
          await this.before("record", target.alias, signal);
          this.notes.push(`${target.alias} ${reason}: ${message}`);
        }),
    };
  }

  async *#watch({ alias }: Target, signal: AbortSignal): AsyncGenerator<Scale | undefined, void> {
    for (let told: Scale | undefined;;) {
      signal.throwIfAborted();
      await this.before("watch", alias, signal);
      if (!this.mayWatch) throw new PermissionError("watch", alias);
      const scale = this.scales.get(alias);
      if (scale !== told) {
        // It may be long on its way.
        await this.before("watched", alias, signal);
        yield told = scale;
        continue;
      }
      await new Promise<void>((resolve, reject) => {
        this.#watchers.add(resolve);
        signal.addEventListener("abort", () => reject(signal.reason));
        if (signal.aborted) reject(signal.reason);
      });
    }
  }

  /** Changes how the pods of a target are. */
  setPods(changes: Partial<Pick<Scale, "current" | "ready" | "available">>, alias = clawdbot.alias): void {
    const scale = this.#scaleOf(alias);
    this.#set(alias, { ...scale, ...changes, resourceVersion: `${Number(scale.resourceVersion) + 1}` });
  }

  /** Deletes a target, or creates it again. */
  replace(scale: Scale | undefined, alias = clawdbot.alias): void {
    if (scale === undefined) this.scales.delete(alias);
    else this.scales.set(alias, scale);
    this.#tellWatchers();
  }

  #set(alias: string, scale: Scale): void {
    this.scales.set(alias, scale);
    this.#tellWatchers();
  }

  #tellWatchers(): void {
    const watchers = [...this.#watchers];
    this.#watchers.clear();
    for (const tell of watchers) tell();
  }

  /** Changes the count, as the API server does; the pods follow at once, unless they are not prompt. */
  setScale(desired: number, alias: string = clawdbot.alias, manager: string | undefined = undefined): void {
    const before = this.#scaleOf(alias);
    const resourceVersion = `${Number(before.resourceVersion) + 1}`;
    const generation = before.generation + (desired === before.desired ? 0 : 1);
    const ready = this.isPrompt ? desired : Math.min(desired, before.ready);
    const counts = { desired, current: desired, ready, available: ready };
    const by = manager === undefined ? {} : { manager };
    this.#set(alias, { ...counts, settled: true, resourceVersion, generation, ...by });
  }

  get scale(): Scale {
    return this.#scaleOf(clawdbot.alias);
  }

  set scale(scale: Scale) {
    this.#set(clawdbot.alias, scale);
  }

  #scaleOf(alias: string): Scale {
    const scale = this.scales.get(alias);
    if (scale === undefined) throw new NotFoundError(`Cannot read ${alias}: not found`);
    return scale;
  }
}

/** An operator at work. */
export class Running implements AsyncDisposable {
  readonly operator: Operator;
  readonly #stop = new AbortController();
  readonly #ended: Promise<unknown>;
  readonly #world: World;

  constructor(world: World, parts: OperatorOptions) {
    this.#world = world;
    this.operator = new Operator(parts);
    this.#ended = this.operator.run(this.#stop.signal).then(() => undefined, (error: unknown) => error);
  }

  /** Puts a message into the inbox, tells the operator, and waits for it to come to rest. */
  async receive(body: string, how: Parameters<World["receive"]>[1] = {}): Promise<InboxEvent> {
    const event = this.#world.receive(body, how);
    if (this.#world.hasAgent(event.roomId)) this.operator.agentRoomsActive({ messages: [event], typing: new Map() });
    this.operator.eventsArrived();
    await settled();
    return event;
  }

  /** An agent writes, which is not put into the inbox; the operator comes to rest. */
  async agentWrites(agent: string, roomId: string = room): Promise<void> {
    const receivedAtMs = this.#world.clock.nowMs;
    const message = { roomId, eventId: `$${agent} ${receivedAtMs}`, sender: agent, json: {}, receivedAtMs, ageMs: 0 };
    this.operator.agentRoomsActive({ messages: [message], typing: new Map() });
    await settled();
  }

  /** These agents are typing in a room from now on, and no others. */
  async agentsType(agents: readonly string[], roomId: string = room): Promise<void> {
    this.operator.agentRoomsActive({ messages: [], typing: new Map([[roomId, agents]]) });
    await settled();
  }

  /** Tells it to end, without waiting. */
  stop(): void {
    this.#stop.abort();
  }

  /** Resolves when it has ended, with its error if it had one. */
  get ended(): Promise<unknown> {
    return this.#ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.operator[Symbol.asyncDispose]();
    await this.#ended;
    assert.deepEqual(this.#world.sentAgain, [], "said twice");
  }
}

export function transactionIdOf({ kind, sequence, eventId }: Pick<Answer, "kind" | "sequence" | "eventId">): string {
  return transactionId(eventId, kind, sequence);
}

/** A decrypted text message. */
export function decrypted(
  body: string,
  ciphertext: { sessionId: string; messageIndex: number },
  changes: { content?: Record<string, unknown>; outerRelation?: unknown; senderFacts?: Partial<SenderFacts> } = {},
): Payload {
  return {
    kind: "decrypted",
    type: "m.room.message",
    content: { msgtype: "m.text", body, ...changes.content },
    outerRelation: changes.outerRelation,
    ciphertext,
    senderFacts: { ...goodSender, ...changes.senderFacts },
  };
}

/** A clear text message. */
export function clear(body: string): Payload {
  return { kind: "clear", type: "m.room.message", content: { msgtype: "m.text", body } };
}
