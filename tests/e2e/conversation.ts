/**
 * Talking to the operator in a room: which of the things seen there is the answer to what was sent.
 *
 * @module
 */

import assert from "node:assert/strict";
import { withoutAcknowledgement } from "../../sandbox/person/mod.ts";
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

  /** Waits for the answer to a message; it comes as an edit where the message was acknowledged first. */
  async answerTo(eventId: string, deadlineMs = 10_000): Promise<SeenEvent> {
    return await this.seen.first(`answer to ${eventId}`, (event) => this.#answers(event, eventId), deadlineMs);
  }

  /** A message has been answered. */
  isAnswered(eventId: string): boolean {
    return this.seen.events.some((event) => this.#answers(event, eventId));
  }

  /** All messages that answer a message: no edits, nothing that rings besides. */
  answersTo(eventId: string): SeenEvent[] {
    return this.seen.events.filter((event) => this.#isAnswer(event) && repliesTo(event) === eventId);
  }

  /** Everything that the operator has said about a message, but edits. */
  saidAbout(eventId: string): SeenEvent[] {
    return this.seen.events.filter((event) => event.sender === this.#operatorId && repliesTo(event) === eventId);
  }

  /** Asserts what holds of every answer: a notice, formatted, encrypted, the only one, its first line the command. */
  assertWellFormed({ eventId, answer }: Exchange, sent: string): void {
    assert.equal(answer.how, "decrypted");
    assert.equal(answer.content["msgtype"], "m.notice");
    assert.equal(answer.content["format"], "org.matrix.custom.html");
    assert.equal(typeof answer.content["formatted_body"], "string");
    assert.equal(textOf(answer).split("\n")[0], `🦞 ${sent}`);
    assert.equal(this.answersTo(eventId).length, 1);
    assert.ok(this.seen.events.every(({ how }) => how !== "undecryptable"), "something could not be decrypted");
  }

  #answers(event: SeenEvent, eventId: string): boolean {
    const original = this.seen.events.find((each) => each.eventId === editedBy(event)) ?? event;
    return this.#isAnswer(original) && repliesTo(original) === eventId && bodyOf(event) !== "";
  }

  #isAnswer(event: SeenEvent): boolean {
    const isNotice = event.type === "m.room.message" && event.content["msgtype"] === "m.notice";
    return event.sender === this.#operatorId && isNotice && editedBy(event) === undefined;
  }
}

/** Text of a message as it is meant; of an edit the new one. */
export function textOf({ content }: SeenEvent): string {
  return String((content["m.new_content"] ?? content)["body"]);
}

/** Text of an answer, without the line that acknowledges the command. */
export function bodyOf(event: SeenEvent): string {
  return withoutAcknowledgement(textOf(event));
}

/** Event id of the message that an edit changes; undefined if it is none. */
export function editedBy({ content, outerContent }: SeenEvent): string | undefined {
  const relation = outerContent["m.relates_to"] ?? content["m.relates_to"];
  return relation?.rel_type === "m.replace" ? relation.event_id : undefined;
}

/** Clients look for the relation outside the ciphertext, where the homeserver sees it too. */
export function repliesTo({ content, outerContent }: SeenEvent): string | undefined {
  return (outerContent["m.relates_to"] ?? content["m.relates_to"])?.["m.in_reply_to"]?.event_id;
}
