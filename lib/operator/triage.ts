/**
 * What becomes of an allowed user's message: it is read, judged and parsed; then it is settled, becomes an order, or
 * waits for a key. Knows nothing of how orders are carried out.
 *
 * @module
 */

import { away, type Command, echo, help, notEncrypted, parse } from "../commands/mod.ts";
import { replyIsNoCommand, roomNotAllowed, uncertainDevice, undecryptable, unknownCommand } from "../commands/mod.ts";
import { isRoomAllowed, type Verdict } from "./access.ts";
import type { Accounts } from "./accounts.ts";
import type { Lanes } from "./lanes.ts";
import { ageOf, messageOf } from "./message.ts";
import { type Outbox, replyTo } from "./outbox.ts";
import { persistently } from "./patience.ts";
import type { Answer, Entry, InboxEvent, RoomFacts, Target } from "./ports.ts";
import { readAndJudge, type Reading } from "./reading.ts";
import type { Parts, Refusal } from "./settings.ts";
import type { Order } from "./target.ts";

const minuteMs = 60_000;
/** How often a room is told the same thing, at most (SPEC 4c, 4h). */
const hintEveryMs = {
  "not-encrypted": 60 * minuteMs,
  "uncertain-device": 10 * minuteMs,
  "undecryptable": 10 * minuteMs,
};
/** A key often comes a little later than its message: nobody is told before. */
const keyGraceMs = 5_000;

type Readable = Extract<Reading, { kind: "readable" }>;
type Undecryptable = Extract<Reading, { kind: "undecryptable" }>;

/** Turns messages into orders. */
export class Triage {
  readonly #parts: Parts;
  readonly #target: Target;
  readonly #outbox: Outbox;
  readonly #accounts: Accounts;
  readonly #lanes: Lanes;
  readonly #stop: AbortSignal;
  /** When a room was last told something. */
  readonly #toldAtMs = new Map<string, number>();
  /** Places of the events that wait for a key. */
  readonly #locked = new Set<number>();

  /**
   * Handles nothing yet.
   *
   * @param parts ports, settings, clock
   * @param target what commands are about
   * @param outbox where answers go
   * @param accounts who keeps the account
   * @param lanes where waiting is done
   * @param stop ends it
   */
  constructor(parts: Parts, target: Target, outbox: Outbox, accounts: Accounts, lanes: Lanes, stop: AbortSignal) {
    this.#parts = parts;
    this.#target = target;
    this.#outbox = outbox;
    this.#accounts = accounts;
    this.#lanes = lanes;
    this.#stop = stop;
  }

  /**
   * Handles a message of an allowed user.
   *
   * @returns what is to be carried out; or that the message is settled, or waits for a key
   */
  async handle({ inbox, progress }: Entry): Promise<Order | "settled" | "locked"> {
    this.#locked.delete(inbox.seq);
    const reading = await persistently(
      "read a message",
      () => readAndJudge(inbox, this.#parts, this.#stop),
      this.#parts,
      this.#stop,
    );
    if (reading.kind === "refused") return this.#refuse(inbox, reading.reason);
    if (reading.kind === "undecryptable") return this.#lock(inbox, reading, progress.state === "new");
    return this.#consider(inbox, reading);
  }

  #lock(inbox: InboxEvent, { room, why, sessionId }: Undecryptable, isNew: boolean): "settled" | "locked" {
    const { journal, settings, clock } = this.#parts;
    if (!isRoomAllowed(room, settings.allowedRooms)) return this.#refuse(inbox, "room-not-allowed");
    const hint = replyTo(inbox, "hint", undecryptable(why.kind === "withheld" ? why.code : undefined));
    if (why.kind === "broken") {
      return this.#refuse(inbox, "unreadable", this.#isDue("undecryptable", inbox) ? [hint] : []);
    }

    journal.undecryptable(inbox.seq, sessionId);
    this.#locked.add(inbox.seq);
    if (!isNew) return "locked";
    this.#accounts.undecryptable(inbox, why.kind === "withheld" ? why.code : why.kind);
    this.#lanes.run(`hint ${inbox.seq}`, async () => {
      await clock.sleep(keyGraceMs, this.#stop);
      if (this.#locked.has(inbox.seq) && this.#isDue("undecryptable", inbox)) this.#outbox.say(hint);
    });
    return "locked";
  }

  #consider(inbox: InboxEvent, { room, payload, verdict }: Readable): Order | "settled" {
    const { chat, clock, journal, settings } = this.#parts;
    const message = messageOf(payload, chat.self);
    if (message === undefined) return this.#settle(inbox, "no-text");
    const parsed = parse(message.text, chat.names);
    const ageMs = ageOf(inbox, clock.now());
    const isOld = ageMs > settings.maxCommandAgeMs;
    const isAddressed = message.mentionsUs || (parsed.kind === "unknown" && parsed.addressed) ||
      isPrivate(room, inbox.sender, chat.self);
    const isAnswered = !isOld && (isAddressed || parsed.kind === "command");

    if (!verdict.believed) {
      return this.#refuse(inbox, verdict.reason, isAnswered ? this.#told(inbox, room, verdict) : []);
    }
    if (!isRoomAllowed(room, settings.allowedRooms)) {
      if (isAnswered) this.#outbox.say(roomNotAllowedIn(room));
      return this.#refuse(inbox, "room-not-allowed");
    }
    if (payload.kind === "decrypted" && !journal.claim(inbox.seq, payload.ciphertext)) {
      return this.#refuse(inbox, "repeat");
    }
    if (message.form !== "plain") {
      if (parsed.kind === "unknown") return this.#settle(inbox, message.form);
      const isTold = message.form === "reply" && isAnswered && isAddressed;
      return this.#refuse(inbox, message.form, isTold ? [replyTo(inbox, "answer", replyIsNoCommand(parsed.text))] : []);
    }
    if (parsed.kind === "command") return this.#command(inbox, parsed, isOld ? ageMs : undefined);
    return this.#settle(inbox, "no-command", isAnswered ? [replyTo(inbox, "answer", unknownCommand(parsed.text))] : []);
  }

  #command(inbox: InboxEvent, { word, text: typed }: Command, tooOldMs: number | undefined): Order | "settled" {
    const target = this.#target;
    const without = { target: target.alias, before: undefined, after: undefined, ms: 0 };
    if (tooOldMs !== undefined) {
      this.#accounts.commanded(inbox, { ...without, command: word, outcome: "too-old" });
      return this.#settle(inbox, "too-old", [replyTo(inbox, "answer", away(typed, tooOldMs))]);
    }
    const { echo: form } = this.#parts.settings;
    if (form === "message") this.#outbox.say(replyTo(inbox, "echo", echo(typed)));
    if (form === "reaction") {
      this.#outbox.say({ ...replyTo(inbox, "echo", { plain: "🦞", html: "🦞" }), form: "reaction" });
    }
    if (word !== "help") return { inbox, word, typed, target, pending: undefined };
    this.#accounts.commanded(inbox, { ...without, target: undefined, command: word, outcome: "done" });
    return this.#settle(inbox, "done", [replyTo(inbox, "answer", help(target.alias))]);
  }

  #told(inbox: InboxEvent, room: RoomFacts, { tell }: Extract<Verdict, { believed: false }>): Answer[] {
    if (tell === "nothing" || !this.#isDue(tell, inbox)) return [];
    return [replyTo(inbox, "hint", tell === "not-encrypted" ? notEncrypted(room.encrypted) : uncertainDevice())];
  }

  #isDue(what: keyof typeof hintEveryMs, { roomId }: InboxEvent): boolean {
    const nowMs = this.#parts.clock.now();
    const key = `${what} ${roomId}`;
    if (nowMs - (this.#toldAtMs.get(key) ?? -Infinity) < hintEveryMs[what]) return false;
    this.#toldAtMs.set(key, nowMs);
    return true;
  }

  #refuse(inbox: InboxEvent, reason: Refusal, answers: readonly Answer[] = []): "settled" {
    this.#accounts.refused(inbox, reason);
    return this.#settle(inbox, reason, answers);
  }

  #settle({ seq }: InboxEvent, outcome: string, answers: readonly Answer[] = []): "settled" {
    this.#outbox.settle(seq, outcome, answers);
    return "settled";
  }
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
