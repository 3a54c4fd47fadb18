/**
 * Talking to the operator in a room: which of the things seen there is the answer to what was sent.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { Person, SeenEvent, TextOptions, Watch } from "../../testbed/mod.ts";

/** A message and what came of it. */
export interface Exchange {
  /** Event id of the message. */
  readonly eventId: string;
  /** The operator's answer. */
  readonly answer: SeenEvent;
  /** From sending to seeing the answer, in milliseconds. */
  readonly ms: number;
  /** The part of it after the homeserver has taken the message, in milliseconds. */
  readonly answeringMs: number;
}

/** A room, seen by one person in it. */
export class Conversation {
  /** Who talks. */
  readonly person: Person;
  /** Room id. */
  readonly roomId: string;
  /** Everything seen since it began. */
  readonly seen: Watch;
  readonly #operatorId: string;

  /**
   * @param person who talks
   * @param roomId where the operator is, too
   * @param operatorId whose answers count
   */
  constructor(person: Person, roomId: string, operatorId: string) {
    this.person = person;
    this.roomId = roomId;
    this.seen = person.watch(roomId);
    this.#operatorId = operatorId;
  }

  /** Makes a room, invites the operator and waits until it is there. */
  static async begin(
    person: Person,
    operatorId: string,
    options: { encrypted?: boolean; invite?: readonly string[] } = {},
  ): Promise<Conversation> {
    const { encrypted = true, invite = [] } = options;
    const roomId = await person.createRoom({ invite: [operatorId, ...invite], encrypted });
    await person.untilJoined(roomId, [operatorId]);
    return new Conversation(person, roomId, operatorId);
  }

  /** Sends a text. Returns its event id. */
  async send(text: string, options: TextOptions = {}): Promise<string> {
    return await this.person.sendText(this.roomId, text, options);
  }

  /** Sends a text and waits for its answer. */
  async ask(text: string, options: TextOptions = {}): Promise<Exchange> {
    const begin = performance.now();
    const eventId = await this.send(text, options);
    const taken = performance.now();
    const answer = await this.answerTo(eventId);
    const end = performance.now();
    return { eventId, answer, ms: end - begin, answeringMs: end - taken };
  }

  /** Waits for the answer to a message. */
  async answerTo(eventId: string, deadlineMs = 10_000): Promise<SeenEvent> {
    const accept = (event: SeenEvent) => this.#isAnswer(event) && repliesTo(event) === eventId;
    return await this.seen.first(`answer to ${eventId}`, accept, deadlineMs);
  }

  /** All answers to a message: no echoes, no edits, nothing that rings besides. */
  answersTo(eventId: string): SeenEvent[] {
    return this.seen.events.filter((event) => this.#isAnswer(event) && repliesTo(event) === eventId);
  }

  /** Everything that the operator has said about a message. */
  saidAbout(eventId: string): SeenEvent[] {
    return this.seen.events.filter((event) => event.sender === this.#operatorId && repliesTo(event) === eventId);
  }

  /** Asserts what holds of every answer: a notice, formatted, encrypted, after an echo that repeats the command. */
  assertWellFormed({ eventId, answer }: Exchange, sent: string): void {
    assert.equal(answer.how, "decrypted");
    assert.equal(answer.content["msgtype"], "m.notice");
    assert.equal(answer.content["format"], "org.matrix.custom.html");
    assert.equal(typeof answer.content["formatted_body"], "string");
    const { events } = this.seen;
    const place = (accept: (event: SeenEvent) => boolean) => events.findIndex(accept);
    const echo = place((event) => event.sender === this.#operatorId && event.content["body"] === `🦞 ${sent}`);
    assert.ok(echo >= 0, `no echo of ${sent}`);
    const echoes = this.saidAbout(eventId).filter(isEcho);
    assert.ok(echoes.length <= 1, "more than one echo");
    assert.ok(echo < place((event) => event.eventId === answer.eventId), "the echo comes after the answer");
    assert.ok(events.every(({ how }) => how !== "undecryptable"), "something could not be decrypted");
  }

  #isAnswer(event: SeenEvent): boolean {
    const isNotice = event.type === "m.room.message" && event.content["msgtype"] === "m.notice";
    return event.sender === this.#operatorId && isNotice && !isEcho(event) && !isEdit(event);
  }
}

/** Plain text of an answer. */
export function bodyOf({ content }: SeenEvent): string {
  return String(content["body"]);
}

function isEcho(event: SeenEvent): boolean {
  return bodyOf(event).startsWith("🦞");
}

function isEdit({ content }: SeenEvent): boolean {
  return content["m.relates_to"]?.rel_type === "m.replace";
}

/** Clients look for the relation outside the ciphertext, where the homeserver sees it too. */
function repliesTo({ content, outerContent }: SeenEvent): string | undefined {
  return (outerContent["m.relates_to"] ?? content["m.relates_to"])?.["m.in_reply_to"]?.event_id;
}
