/**
 * Turns events into commands. It takes events from the journal, in order within a room and concurrently across rooms,
 * authorizes and parses each one, and submits it as a command or settles it.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { type Clock, Deadline, type KeyedQueue, unlessAborted } from "../async.ts";
import { hasAllowedUser, isRoomAllowed } from "../authorization/mod.ts";
import {
  answering,
  away,
  type Command,
  help,
  historyCutOff,
  misused,
  parse,
  replyIsNoCommand,
  roomNotAllowed,
  type Text,
  undecryptable,
  unknownCommand,
  untrusted,
} from "../commands/mod.ts";
import type { Agent } from "../config/mod.ts";
import { errorLocation, isFatal } from "../errors.ts";
import type { Agents, MessageContext } from "./agents.ts";
import type { Audit, Outcome, Refusal } from "./audit.ts";
import type { Authorization, Authorizer } from "./authorizer.ts";
import { ageOf, type Message, messageOf } from "./message.ts";
import { resumedCommand, type TargetCommand } from "./target_command.ts";
import type { Answer, InboxEvent, RoomFacts } from "../session/mod.ts";
import type { Chat, Entry, Journal, OperatorConfig } from "./ports.ts";
import type { Retrier } from "./retrier.ts";
import { replyTo, type SendQueue } from "./send_queue.ts";
import type { TargetWorkers } from "./target_workers.ts";

const logger = getLogger(["openclaw-toggle", "operator"]);

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;
/** After this time without an answer to /keys/query, only this sender's events wait. */
const HOLDS_ROOM_FOR_MS = 30_000;
/** A status waits this long for the commands before it (SPEC 3f). */
const STATUS_WAITS_MS = 30_000;
/** A command that isn't answered within this time of its receipt is acknowledged (SPEC 3c). */
const ACKNOWLEDGED_AFTER_MS = 150;
/** Minimum interval between hints in a room that something could not be decrypted or wasn't trusted (SPEC 4h). */
const HINT_EVERY_MS = 10 * MINUTE_MS;
/** A key often arrives shortly after its message. No hint is sent before this time has passed. */
const KEY_GRACE_MS = 5_000;
/** Retries of an event after unknown failures. */
const MAX_UNKNOWN_FAILURES = 2;

type Readable = Extract<Authorization, { kind: "readable" }>;
type Undecryptable = Extract<Authorization, { kind: "undecryptable" }>;

/** State of an event after authorization: settled, waiting for a key, or a command. */
type Disposition = TargetCommand | "settled" | "waits-for-key";

export interface EventProcessorOptions {
  readonly chat: Pick<Chat, "names" | "room" | "self" | "senderOf">;
  readonly journal: Pick<
    Journal,
    "awaitingKey" | "claim" | "isOurs" | "markUndecryptable" | "newEvents" | "transaction" | "unsettled"
  >;
  readonly authorizer: Authorizer;
  readonly agents: Agents;
  readonly targets: Pick<TargetWorkers, "acknowledge" | "isAsleep" | "submit">;
  readonly sendQueue: SendQueue;
  readonly audit: Audit;
  readonly clock: Clock;
  readonly queue: KeyedQueue;
  readonly retrier: Retrier;
  readonly stop: AbortSignal;
  readonly config:
    & Pick<
      OperatorConfig,
      "agents" | "allowedRooms" | "allowedUsers" | "echo" | "idleStopMs" | "maxCommandAgeMs" | "schedule"
    >
    & {
      /** Aliases of the targets, the default one first. */
      readonly aliases: readonly string[];
    };
}

/** A command that is being carried out. */
interface RunningCommand {
  readonly typed: string;
  readonly done: Promise<void>;
}

export class EventProcessor {
  readonly #options: EventProcessorOptions;
  /** Sequence numbers of the events that are being handled. */
  readonly #inProgress = new Set<number>();
  /** Sequence numbers of the events whose key is missing and for which no hint has been sent yet. */
  readonly #awaitingKey = new Set<number>();
  /** Commands that are being carried out, by room. */
  readonly #running = new Map<string, Set<RunningCommand>>();
  /** When a hint was last sent, by kind and room. */
  readonly #hintedAtMs = new Map<string, number>();
  #keysArrived = 0;

  constructor(options: EventProcessorOptions) {
    this.#options = options;
  }

  /**
   * Resumes the events that an earlier run left, including those without a key. A command that had begun reaches its
   * target first, because all other events must be decrypted before.
   */
  resume(): void {
    this.#enqueueAll((after) => this.#options.journal.unsettled(after));
  }

  /** Takes new events. */
  eventsArrived(): void {
    this.#enqueueAll((after) => this.#options.journal.newEvents(after));
  }

  /** Takes the events that were waiting for this key. */
  keyArrived(roomId: string, sessionId: string): void {
    this.#keysArrived += 1;
    for (const entry of this.#options.journal.awaitingKey(roomId, sessionId)) this.#enqueue(entry);
  }

  /** Tells a room that part of its history could not be fetched; once per id. */
  historyCutOff(roomId: string, id: number): void {
    const { config: { allowedUsers, allowedRooms }, chat, sendQueue } = this.#options;
    const room = chat.room(roomId);
    if (room === undefined || !isRoomAllowed(roomId, allowedRooms)) return;
    if (!hasAllowedUser(room, allowedUsers, chat.self)) return;
    sendQueue.enqueue(roomHint(roomId, `${roomId} history ${id}`, historyCutOff()));
  }

  #enqueueAll(read: (after: number) => readonly Entry[]): void {
    // Starts from the beginning each time: events behind a gap appear between sequence numbers that were seen before.
    for (let after = 0;;) {
      const entries = read(after);
      const last = entries.at(-1);
      if (last === undefined) return;
      for (const entry of entries) this.#enqueue(entry);
      after = last.event.seq;
    }
  }

  #enqueue(entry: Entry): void {
    const { event, progress } = entry;
    const { chat, config, audit, queue, sendQueue } = this.#options;
    if (this.#inProgress.has(event.seq)) return;
    if (!isMessage(event)) return sendQueue.settle(event.seq, "no-message");
    if (event.sender === chat.self) return sendQueue.settle(event.seq, "own");
    if (!config.allowedUsers.has(event.sender)) {
      audit.refused(event, "stranger");
      return sendQueue.settle(event.seq, "stranger");
    }
    this.#inProgress.add(event.seq);
    if (progress.state === "begun") return this.#submit(resumedCommand(event, progress.command));
    queue.run(`room ${event.roomId}`, () => this.#processInOrder(entry));
  }

  /**
   * Handles an event in the room's order. If the homeserver takes too long to answer about its sender, the sender's
   * events leave the order, and the room goes on.
   */
  async #processInOrder(entry: Entry): Promise<void> {
    const { queue, clock, stop } = this.#options;
    const { roomId, sender } = entry.event;
    const aside = `aside ${roomId} ${sender}`;
    const setAside = (): void => queue.run(aside, () => this.#process(entry, stop));
    if (queue.isBusy(aside)) return setAside();
    using deadline = new Deadline(HOLDS_ROOM_FOR_MS, stop, { clock });
    try {
      await this.#process(entry, deadline.signal);
    } catch (error) {
      if (!deadline.expired || error !== deadline.signal.reason) throw error;
      setAside();
    }
  }

  async #process(entry: Entry, signal: AbortSignal): Promise<void> {
    const { seq } = entry.event;
    const keysBefore = this.#keysArrived;
    const next = await this.#authorizeOrGiveUp(entry, signal);
    if (typeof next === "object") {
      this.#acknowledgeLater(next);
      return next.word === "status" ? this.#status(next) : this.#submit(next);
    }

    this.#inProgress.delete(seq);
    // The key may have arrived between the failed decryption and the write that recorded it.
    if (next === "waits-for-key" && keysBefore !== this.#keysArrived) {
      this.#enqueue({ event: entry.event, progress: { state: "undecryptable" } });
    }
  }

  /** An answer that arrives at once needs no acknowledgement before it. */
  #acknowledgeLater(command: TargetCommand): void {
    const { targets, queue, clock, stop, config } = this.#options;
    const { seq, receivedAtMs } = command.event;
    if (config.echo !== "message" || command.word === "wake") return;
    queue.run(`acknowledge ${seq}`, async () => {
      await clock.sleep(Math.max(0, receivedAtMs + ACKNOWLEDGED_AFTER_MS - clock.now()), stop);
      if (this.#inProgress.has(seq)) targets.acknowledge(command);
    });
  }

  /** An unknown failure affects this message only. */
  async #authorizeOrGiveUp(entry: Entry, signal: AbortSignal): Promise<Disposition> {
    const { event } = entry;
    const { retrier } = this.#options;
    try {
      const limits = { unknownFailures: MAX_UNKNOWN_FAILURES };
      return await retrier.run("handle a message", () => this.#authorize(entry, signal), signal, limits);
    } catch (error) {
      if (signal.aborted || isFatal(error)) throw error;
      const { roomId: room, eventId } = event;
      logger.error("failed to handle {event} in {room}: {reason}", {
        room,
        event: eventId,
        reason: errorLocation(error),
      });
      return this.#refuse(event, "unreadable");
    }
  }

  /** @param signal ends the attempts to decrypt it; nothing is decided then */
  async #authorize({ event, progress }: Entry, signal: AbortSignal): Promise<Disposition> {
    this.#awaitingKey.delete(event.seq);
    const authorization = await this.#options.authorizer.authorize(event, signal);
    if (authorization.kind === "undecryptable") {
      return this.#undecryptable(event, authorization, progress.state === "new");
    }
    const message = messageOf(event, authorization.payload);
    const repliedUser = await this.#repliedUser(event, message, authorization.room, signal);
    return this.#options.journal.transaction(() => this.#interpret(event, authorization, message, repliedUser));
  }

  /**
   * Returns the sender of the message that this one replies to, if that may be an agent. Asks the homeserver only if
   * the message doesn't show it.
   */
  async #repliedUser(
    { roomId, sender }: InboxEvent,
    message: Message | undefined,
    room: RoomFacts | undefined,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    const { agents, chat } = this.#options;
    if (message?.repliedTo === undefined || room === undefined || agents.joinedTo(room).length === 0) return undefined;
    const { eventIds: [eventId, ...others], quotedUser } = message.repliedTo;
    if (quotedUser !== undefined || eventId === undefined || others.length > 0) return quotedUser;
    if (this.#isOurs(message.repliedTo)) return chat.self;
    const isNamed = agents.named(message, { room, sender, repliedUser: undefined }).length > 0;
    return isNamed ? undefined : await chat.senderOf(roomId, eventId, signal);
  }

  #undecryptable(event: InboxEvent, { why, sessionId }: Undecryptable, isNew: boolean): Disposition {
    const { chat, journal, config, clock, audit, agents, targets, queue, sendQueue, stop } = this.#options;
    if (why.kind === "forged") return this.#refuse(event, "mismatched-sender");
    const isTold = () => {
      const room = chat.room(event.roomId);
      if (room?.membership !== "join" || !isRoomAllowed(event.roomId, config.allowedRooms)) return false;
      // The homeserver may hide for now that the room is encrypted. Nothing is said in clear then.
      if (!room.encrypted) return false;
      // If agents are awake, the message was probably for them, and they have read it.
      const present = agents.joinedTo(room);
      const isTheirs = present.length > 0 && !present.some(({ alias }) => targets.isAsleep(alias));
      return this.#mayHint("undecryptable", event, isTheirs ? DAY_MS : HINT_EVERY_MS);
    };
    const hint = replyTo(event, "hint", undecryptable(why.kind === "withheld" ? why.code : undefined));
    if (why.kind === "broken") return this.#refuse(event, "unreadable", isTold() ? [hint] : []);

    journal.markUndecryptable(event.seq, sessionId);
    if (!isNew) return "waits-for-key";
    this.#awaitingKey.add(event.seq);
    audit.undecryptable(event, why.kind === "withheld" ? why.code : why.kind);
    queue.run(`hint ${event.seq}`, async () => {
      await clock.sleep(KEY_GRACE_MS, stop);
      if (this.#awaitingKey.delete(event.seq) && isTold()) sendQueue.enqueue(hint);
    });
    return "waits-for-key";
  }

  #interpret(
    event: InboxEvent,
    authorization: Readable,
    message: Message | undefined,
    repliedUser: string | undefined,
  ): Disposition {
    const { chat, clock, journal, config, agents, sendQueue } = this.#options;
    const { room, payload, verdict } = authorization;
    // A refused ciphertext is claimed too. Otherwise the server could send it again once its sender is trusted. With a
    // forged sender it isn't claimed, because it belongs to somebody else.
    const isForged = payload.kind === "decrypted" && payload.senderFacts.mismatchedSender;
    if (payload.kind === "decrypted" && !isForged && !journal.claim(event.seq, payload.ciphertext)) {
      return this.#refuse(event, "repeat");
    }
    const isWithAgent = agents.joinedTo(room).length > 0;
    if (message === undefined || (!message.isText && !isWithAgent)) return this.#settle(event, "no-text");

    const parsed = parse(message.isText ? message.text : "", chat.names, config.aliases);
    const ageMs = ageOf(event, clock.now());
    const isOld = ageMs > config.maxCommandAgeMs;
    const isReplyToUs = message.repliedTo !== undefined && this.#isOurs(message.repliedTo);
    const mentionsUs = message.mentions.includes(chat.self) || parsed.addressed;
    if (room !== undefined && isWithAgent) {
      const context: MessageContext = { room, sender: event.sender, repliedUser };
      const isNamed = agents.named(message, context).length > 0;
      const isCommand = parsed.kind === "command";
      if (!(mentionsUs || isReplyToUs) || (isNamed && !isCommand)) {
        // A command word without the agent's name may have been meant for us.
        const isIgnored = isOld || message.isEdit || (isCommand && !isNamed);
        return this.#agentMessage(event, authorization, isIgnored ? [] : agents.addressed(message, context));
      }
    }
    const isAddressed = isWithAgent
      ? mentionsUs || isReplyToUs
      : mentionsUs || (room !== undefined && isDirectRoom(room, event.sender, chat.self));
    const isAnswered = !isOld && (isAddressed || parsed.kind === "command");
    if (!verdict.trusted) {
      if (verdict.reason === "room-not-allowed" && isAnswered) {
        sendQueue.enqueue(roomHint(event.roomId, event.roomId, roomNotAllowed()));
      }
      return this.#refuseUntrusted(event, authorization, verdict, isAnswered);
    }
    if (message.isEdit) {
      return parsed.kind === "command" ? this.#refuse(event, "edit") : this.#settle(event, "edit");
    }
    if (message.repliedTo !== undefined && !isReplyToUs) {
      if (parsed.kind === "unknown") return this.#settle(event, "reply");
      return this.#refuse(event, "reply", isOld ? [] : [replyTo(event, "answer", replyIsNoCommand(parsed.text))]);
    }
    if (parsed.kind === "command") return this.#command(event, parsed, isOld ? ageMs : undefined);
    const { misuse } = parsed;
    // Where an agent is, a word that we don't know may be one that the agent knows.
    const isTold = isAnswered && (misuse !== undefined || !isWithAgent);
    const words = misuse === undefined ? unknownCommand(parsed.text) : misused(misuse, config.aliases);
    return this.#settle(event, "no-command", isTold ? [replyTo(event, "answer", words)] : []);
  }

  /**
   * Handles a message to agents: it wakes them or does nothing. We stay silent, unless an agent is asleep and the
   * message would have woken it if its sender were trusted.
   */
  #agentMessage(event: InboxEvent, authorization: Readable, called: readonly Agent[]): Disposition {
    const { verdict, payload } = authorization;
    const aliases = [...new Set(called.map(({ alias }) => alias))];
    if (!verdict.trusted) {
      const isMissed = aliases.some((alias) => this.#options.targets.isAsleep(alias));
      return this.#refuseUntrusted(event, authorization, verdict, isMissed);
    }
    if (aliases.length === 0 || payload.kind !== "decrypted") return this.#settle(event, "not-for-us");
    return {
      ...{ event, word: "wake", typed: "", durationMs: undefined },
      steps: new Map(aliases.map((target) => [target, { target }])),
    };
  }

  #refuseUntrusted(
    event: InboxEvent,
    authorization: Readable,
    { reason, explanation }: Extract<Readable["verdict"], { trusted: false }>,
    isAnswered: boolean,
  ): "settled" {
    const everyMs = explanation === "not-encrypted" ? 60 * MINUTE_MS : HINT_EVERY_MS;
    const isTold = isAnswered && explanation !== undefined && this.#mayHint(explanation, event, everyMs);
    return this.#refuse(event, reason, isTold ? [this.#explain(event, authorization, explanation)] : []);
  }

  /** Whether it replies to a message of ours, as far as we can tell. Trust doesn't depend on that. */
  #isOurs({ eventIds, quotedUser }: NonNullable<Message["repliedTo"]>): boolean {
    const { chat, journal } = this.#options;
    return quotedUser === chat.self || eventIds.every((eventId) => journal.isOurs(eventId));
  }

  #command(event: InboxEvent, command: Command, tooOldMs: number | undefined): Disposition {
    const { config, sendQueue } = this.#options;
    const { aliases, echo: form } = config;
    const { word, text: typed, durationMs } = command;
    // The answer already names the command.
    if (tooOldMs !== undefined) return this.#answer(event, command, "too-old", away(typed, tooOldMs));
    if (form === "reaction") {
      sendQueue.enqueue({ ...replyTo(event, "echo", { plain: "🦞", html: "🦞" }), form: "reaction" });
    }
    if (word === "help") {
      const text = help(aliases, config);
      return this.#answer(event, command, "done", form === "message" ? answering(typed, text) : text);
    }
    const steps = new Map(targetsOf(command, aliases).map((target) => [target, { target }]));
    return { event, word, typed, durationMs, steps };
  }

  #submit(command: TargetCommand): void {
    const { event: { seq, roomId }, word, typed } = command;
    const done = this.#options.targets.submit(command).then(() => void this.#inProgress.delete(seq));
    if (word === "status") return;
    const running = this.#running.get(roomId) ?? new Set();
    this.#running.set(roomId, running);
    const mine = { typed, done };
    running.add(mine);
    done.then(() => {
      running.delete(mine);
      if (running.size === 0) this.#running.delete(roomId);
    });
  }

  /** A status reports the result of the commands before it in its room, so it waits for them. */
  #status(command: TargetCommand): void {
    const { event: { seq, roomId } } = command;
    const { queue, clock, stop } = this.#options;
    const before = [...this.#running.get(roomId) ?? []];
    if (before.length === 0) return this.#submit(command);
    queue.run(`status ${seq}`, async () => {
      using deadline = new Deadline(STATUS_WAITS_MS, stop, { clock });
      try {
        await unlessAborted(Promise.all(before.map(({ done }) => done)), deadline.signal);
      } catch (error) {
        if (!deadline.expired) throw error;
      }
      stop.throwIfAborted();
      const underWay = before.filter((each) => this.#running.get(roomId)?.has(each) && each.typed !== "")
        .map(({ typed }) => typed);
      this.#submit({ ...command, underWay });
    });
  }

  #explain(event: InboxEvent, { room, payload }: Readable, explanation: Parameters<typeof untrusted>[0]): Answer {
    const device = payload.kind === "decrypted" ? payload.senderFacts.device : undefined;
    return replyTo(
      event,
      "hint",
      untrusted(explanation, {
        encrypted: room?.encrypted ?? false,
        deviceId: device?.deviceId,
        trustedDevices: this.#options.authorizer.trustedDevices(event.sender),
      }),
    );
  }

  /** Answers a command that needs no target worker. */
  #answer(
    event: InboxEvent,
    { word: command, target }: Command,
    outcome: Outcome,
    text: Text,
  ): "settled" {
    this.#options.audit.commanded(event, { command, target, outcome, before: undefined, after: undefined, ms: 0 });
    return this.#settle(event, outcome, [replyTo(event, "answer", text)]);
  }

  /** Limits how often a room is told the same thing (SPEC 4c, 4h). */
  #mayHint(kind: string, { roomId }: InboxEvent, everyMs: number): boolean {
    const nowMs = this.#options.clock.now();
    const key = `${kind} ${roomId}`;
    if (nowMs - (this.#hintedAtMs.get(key) ?? -Infinity) < everyMs) return false;
    this.#hintedAtMs.set(key, nowMs);
    return true;
  }

  #refuse(event: InboxEvent, reason: Refusal, answers: readonly Answer[] = []): "settled" {
    this.#options.audit.refused(event, reason);
    return this.#settle(event, reason, answers);
  }

  #settle({ seq }: InboxEvent, outcome: string, answers: readonly Answer[] = []): "settled" {
    this.#options.sendQueue.settle(seq, outcome, answers);
    return "settled";
  }
}

/**
 * Whether an event is a message, encrypted or not, or a verification step, which the chat handles, and is not redacted.
 */
function isMessage({ json }: InboxEvent): boolean {
  const { type, content } = json;
  const isWanted = type === "m.room.message" || type === "m.room.encrypted" ||
    (typeof type === "string" && type.startsWith("m.key.verification."));
  if (!isWanted) return false;
  return typeof content === "object" && content !== null && Object.keys(content).length > 0;
}

/**
 * Returns the targets of a command. Without a name, `status` reports all of them; other commands apply to the default
 * one.
 */
function targetsOf({ word, target }: Command, aliases: readonly string[]): readonly string[] {
  if (target === "all" || (target === undefined && word === "status")) return aliases;
  return [target ?? aliases[0]].filter((alias) => alias !== undefined);
}

/** Whether nobody but the sender and us is in the room. Every message there is addressed to us. */
function isDirectRoom(room: RoomFacts, sender: string, self: string): boolean {
  return room.joinedCount === [sender, self].filter((user) => room.isJoined(user)).length;
}

/** An answer about a room instead of an event. Its transaction id is always the same, so it is sent only once. */
function roomHint(roomId: string, eventId: string, text: Text): Answer {
  return { kind: "hint", sequence: 0, roomId, eventId, form: "notice", text, reply: false };
}
