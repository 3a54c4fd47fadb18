/**
 * What becomes of an allowed user's message: it is read, judged and parsed; then it is settled, becomes an order, or
 * waits for a key. Knows nothing of how orders are carried out.
 *
 * @module
 */

import { away, type Command, disbelieved, echo, help, parse, replyIsNoCommand } from "../commands/mod.ts";
import { misused, roomNotAllowed, type Text, trustInClear, undecryptable, unknownCommand } from "../commands/mod.ts";
import { isRoomAllowed, isSenders, type Tell } from "./access.ts";
import { ageOf, messageOf } from "./message.ts";
import type { Order } from "./order.ts";
import { type Outbox, replyTo } from "./outbox.ts";
import { persistently } from "./patience.ts";
import type { Answer, Entry, InboxEvent, RoomFacts } from "./ports.ts";
import { readAndJudge, type Reading } from "./reading.ts";
import type { Inside, Outcome, Refusal } from "./settings.ts";

import type { Vouching } from "./vouching.ts";

const minuteMs = 60_000;
/** How often a room is told the same thing, at most (SPEC 4c, 4h). */
const hintEveryMs = (what: Tell | "undecryptable"): number => (what === "not-encrypted" ? 60 : 10) * minuteMs;
/** A key often comes a little later than its message: nobody is told before. */
const keyGraceMs = 5_000;

type Readable = Extract<Reading, { kind: "readable" }>;
type Undecryptable = Extract<Reading, { kind: "undecryptable" }>;

/** Turns messages into orders. */
export class Triage {
  readonly #inside: Inside;
  readonly #outbox: Outbox;
  readonly #vouching: Vouching;
  /** When a room was last told something. */
  readonly #toldAtMs = new Map<string, number>();
  /** Places of the events that wait for a key. */
  readonly #locked = new Set<number>();

  /** Handles nothing yet. */
  constructor(inside: Inside, outbox: Outbox, vouching: Vouching) {
    this.#inside = inside;
    this.#outbox = outbox;
    this.#vouching = vouching;
  }

  /**
   * Handles a message of an allowed user.
   *
   * @param signal ends the tries to read it; nothing is decided then
   * @returns what is to be carried out; or that the message is settled, or waits for a key
   */
  async handle({ inbox, progress }: Entry, signal: AbortSignal): Promise<Order | "settled" | "locked"> {
    this.#locked.delete(inbox.seq);
    const read = () => readAndJudge(inbox, this.#inside, signal);
    const reading = await persistently("read a message", read, this.#inside, signal);
    if (reading.kind === "refused") return this.#refuse(inbox, reading.reason);
    if (reading.kind === "undecryptable") return this.#lock(inbox, reading, progress.state === "new");
    const { believed } = reading.verdict;
    const isAnnounced = !believed && this.#announce(inbox, reading);
    const next = this.#inside.journal.transaction(() => this.#consider(inbox, reading, isAnnounced));
    // Not before: a word for what was not shown yet must count for nothing.
    if (believed) this.#announce(inbox, reading);
    return next;
  }

  #lock(inbox: InboxEvent, { why, sessionId }: Undecryptable, isNew: boolean): "settled" | "locked" {
    const { journal, settings, clock, accounts, lanes, stop } = this.#inside;
    if (why.kind === "forged") return this.#refuse(inbox, "mismatched-sender");
    if (!isRoomAllowed(inbox.roomId, settings.allowedRooms)) return this.#refuse(inbox, "room-not-allowed");
    const hint = replyTo(inbox, "hint", undecryptable(why.kind === "withheld" ? why.code : undefined));
    if (why.kind === "broken") {
      return this.#refuse(inbox, "unreadable", this.#isDue("undecryptable", inbox) ? [hint] : []);
    }

    journal.undecryptable(inbox.seq, sessionId);
    this.#locked.add(inbox.seq);
    if (!isNew) return "locked";
    accounts.undecryptable(inbox, why.kind === "withheld" ? why.code : why.kind);
    lanes.run(`hint ${inbox.seq}`, async () => {
      await clock.sleep(keyGraceMs, stop);
      if (this.#locked.has(inbox.seq) && this.#isDue("undecryptable", inbox)) this.#outbox.say(hint);
    });
    return "locked";
  }

  /** Announces what has appeared in the sender's account; a forger must not bring that about. */
  #announce({ sender, roomId }: InboxEvent, { payload, verdict }: Readable): boolean {
    if (payload.kind !== "decrypted" || (!verdict.believed && verdict.tell === "nothing")) return false;
    return this.#vouching.look(sender, payload.senderFacts, roomId);
  }

  #consider(inbox: InboxEvent, reading: Readable, isAnnounced: boolean): Order | "settled" {
    const { chat, clock, journal, settings } = this.#inside;
    const { room, payload, verdict } = reading;
    const message = messageOf(payload, chat.self);
    if (message === undefined) return this.#settle(inbox, "no-text");
    const aliases = settings.targets.map(({ alias }) => alias);
    const parsed = parse(message.text, chat.names, aliases);
    const ageMs = ageOf(inbox, clock.now());
    const isOld = ageMs > settings.maxCommandAgeMs;
    const isAddressed = message.mentionsUs || (parsed.kind === "unknown" && parsed.addressed) ||
      isPrivate(room, inbox.sender, chat.self);
    const isAnswered = !isOld && (isAddressed || parsed.kind === "command");

    // Also what is refused, if it is the sender's own for certain: the server could send it again once it is believed.
    if (payload.kind === "decrypted" && isSenders(verdict) && !journal.claim(inbox.seq, payload.ciphertext)) {
      return this.#refuse(inbox, "repeat");
    }
    if (!verdict.believed) {
      const isTold = isAnswered && !isAnnounced && verdict.tell !== "nothing" && this.#isDue(verdict.tell, inbox);
      return this.#refuse(inbox, verdict.reason, isTold ? [replyTo(inbox, "hint", this.#whyNot(inbox, reading))] : []);
    }
    if (!isRoomAllowed(inbox.roomId, settings.allowedRooms)) {
      if (isAnswered) this.#outbox.say(roomNotAllowedIn(room));
      return this.#refuse(inbox, "room-not-allowed");
    }
    if (message.form !== "plain") {
      if (parsed.kind === "unknown") return this.#settle(inbox, message.form);
      const isTold = message.form === "reply" && isAnswered && isAddressed;
      return this.#refuse(inbox, message.form, isTold ? [replyTo(inbox, "answer", replyIsNoCommand(parsed.text))] : []);
    }
    if (parsed.kind === "command") return this.#command(inbox, parsed, payload, isOld ? ageMs : undefined);
    const { misuse } = parsed;
    const words = misuse === undefined ? unknownCommand(parsed.text) : misused(misuse, aliases);
    return this.#settle(inbox, "no-command", isAnswered ? [replyTo(inbox, "answer", words)] : []);
  }

  #command(inbox: InboxEvent, command: Command, payload: Readable["payload"], tooOldMs?: number): Order | "settled" {
    const { word, text: typed } = command;
    const aliases = this.#inside.settings.targets.map(({ alias }) => alias);
    const targets = targetsOf(command, aliases);
    if (tooOldMs !== undefined) return this.#answer(inbox, command, "too-old", away(typed, tooOldMs));
    const { echo: form } = this.#inside.settings;
    if (form === "message") this.#outbox.echo(replyTo(inbox, "echo", echo(typed)));
    if (form === "reaction") {
      this.#outbox.echo({ ...replyTo(inbox, "echo", { plain: "🦞", html: "🦞" }), form: "reaction" });
    }
    // Clear text, where it is taken, is nobody's for certain: it moves no announcements, and vouches for nothing.
    if (payload.kind === "decrypted") this.#vouching.commandedIn(inbox.roomId, inbox.sender);
    if (word === "help") return this.#answer(inbox, command, "done", help(aliases));
    if (word !== "trust") {
      const parts = new Map(targets.map((target) => [target, { target }]));
      return { inbox, word, typed, durationMs: command.durationMs, parts };
    }
    if (payload.kind !== "decrypted") return this.#answer(inbox, command, "refused", trustInClear());
    const { outcome, text } = this.#vouching.trust(inbox.sender, payload.senderFacts, command.argument);
    return this.#answer(inbox, command, outcome, text);
  }

  #whyNot({ sender }: InboxEvent, { room, payload, verdict }: Readable): Text {
    const device = payload.kind === "decrypted" ? payload.senderFacts.device : undefined;
    return disbelieved(verdict.believed ? "nothing" : verdict.tell, {
      encrypted: room.encrypted,
      deviceId: device?.deviceId,
      shownId: this.#vouching.shownIdOf(sender, device),
    });
  }

  /** A command that is over as soon as it is seen. */
  #answer(inbox: InboxEvent, { word: command, target }: Command, outcome: Outcome, text: Text): "settled" {
    this.#inside.accounts.commanded(inbox, { command, target, outcome, before: undefined, after: undefined, ms: 0 });
    return this.#settle(inbox, outcome, [replyTo(inbox, "answer", text)]);
  }

  #isDue(what: Tell | "undecryptable", { roomId }: InboxEvent): boolean {
    const nowMs = this.#inside.clock.now();
    const key = `${what} ${roomId}`;
    if (nowMs - (this.#toldAtMs.get(key) ?? -Infinity) < hintEveryMs(what)) return false;
    this.#toldAtMs.set(key, nowMs);
    return true;
  }

  #refuse(inbox: InboxEvent, reason: Refusal, answers: readonly Answer[] = []): "settled" {
    this.#inside.accounts.refused(inbox, reason);
    return this.#settle(inbox, reason, answers);
  }

  #settle({ seq }: InboxEvent, outcome: string, answers: readonly Answer[] = []): "settled" {
    this.#outbox.settle(seq, outcome, answers);
    return "settled";
  }
}

/** What a command is about: without a name, `status` tells of all, anything else is done to the default one. */
function targetsOf({ word, target }: Command, aliases: readonly string[]): readonly string[] {
  if (target === "all" || (target === undefined && word === "status")) return aliases;
  return [target ?? aliases[0]].filter((alias) => alias !== undefined);
}

/** Nobody but the sender and us is there: whatever is said is said to us. */
function isPrivate({ joined }: RoomFacts, sender: string, self: string): boolean {
  return joined.every((user) => user === sender || user === self);
}

/** About the room rather than an event, so that its transaction id is always the same, and it is said but once. */
function roomNotAllowedIn({ roomId }: RoomFacts): Answer {
  const text = roomNotAllowed();
  return { kind: "hint", sequence: 0, roomId, eventId: roomId, form: "notice", text, reply: false };
}
