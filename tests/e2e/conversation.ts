/**
 * A conversation with the operator in a room. Finds out which of the events seen there answers what was sent.
 *
 * @module
 */

import assert from "node:assert/strict";
import { withoutAcknowledgement } from "../../sandbox/person/mod.ts";
import type { Person, SeenEvent, TextOptions, Watch } from "../../testbed/mod.ts";

/** A message and its answer. */
export interface Exchange {
  /** Event ID of the message. */
  readonly eventId: string;
  /** The operator's answer. */
  readonly answer: SeenEvent;
  /** Time from sending to seeing the answer, in milliseconds. */
  readonly ms: number;
  /** The part of it after the homeserver has accepted the message, in milliseconds. */
  readonly answeringMs: number;
}

/** A room as one of its members sees it. */
export class Conversation {
  /** The member. */
  readonly person: Person;
  readonly roomId: string;
  /** All events seen since the conversation began. */
  readonly seen: Watch;
  readonly #operatorId: string;

  /**
   * @param person member who talks
   * @param roomId room that the operator is in, too
   * @param operatorId user whose answers count
   */
  constructor(person: Person, roomId: string, operatorId: string) {
    this.person = person;
    this.roomId = roomId;
    this.seen = person.watch(roomId);
    this.#operatorId = operatorId;
  }

  /** Creates a room, invites the operator, and waits until it has joined. */
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

  /** Sends a text. Returns its event ID. */
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

  /** Waits for the answer to a message. If the message was acknowledged first, the answer is an edit. */
  async answerTo(eventId: string, deadlineMs = 10_000): Promise<SeenEvent> {
    return await this.seen.first(`answer to ${eventId}`, (event) => this.#answers(event, eventId), deadlineMs);
  }

  /** Reports whether a message has been answered. */
  isAnswered(eventId: string): boolean {
    return this.seen.events.some((event) => this.#answers(event, eventId));
  }

  /** Returns the messages that answer a message, without edits and without messages that notify. */
  answersTo(eventId: string): SeenEvent[] {
    return this.seen.events.filter((event) => this.#isAnswer(event) && repliesTo(event) === eventId);
  }

  /** Returns everything that the operator has sent about a message, except edits. */
  saidAbout(eventId: string): SeenEvent[] {
    return this.seen.events.filter((event) => event.sender === this.#operatorId && repliesTo(event) === eventId);
  }

  /**
   * Asserts what every answer must be: a formatted, encrypted notice, the only answer, with the command as its first
   * line.
   */
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

/** Returns the text of a message, or the new text of an edit. */
export function textOf({ content }: SeenEvent): string {
  return String((content["m.new_content"] ?? content)["body"]);
}

/** Returns the text of an answer without the line that acknowledges the command. */
export function bodyOf(event: SeenEvent): string {
  return withoutAcknowledgement(textOf(event));
}

/** Returns the ID of the event that an edit replaces, or undefined if it is not an edit. */
export function editedBy({ content, outerContent }: SeenEvent): string | undefined {
  const relation = outerContent["m.relates_to"] ?? content["m.relates_to"];
  return relation?.rel_type === "m.replace" ? relation.event_id : undefined;
}

/**
 * Returns the ID of the event that this one replies to. Clients read the relation outside the ciphertext, where the
 * homeserver can see it, too.
 */
export function repliesTo({ content, outerContent }: SeenEvent): string | undefined {
  return (outerContent["m.relates_to"] ?? content["m.relates_to"])?.["m.in_reply_to"]?.event_id;
}
