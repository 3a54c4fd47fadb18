/**
 * Tells how changes fare: one answer per command, edited as things change, and a message that rings where somebody has
 * to know. Knows nothing of clusters.
 *
 * @module
 */

import { lines, mentioning, superseded, type Text } from "../commands/mod.ts";
import type { Change, Recall, Story } from "./memory.ts";
import { inThread, type SendQueue } from "./send_queue.ts";
import { threadOf } from "./message.ts";
import type { Answer, InboxEvent } from "./ports.ts";
import type { Inside } from "./settings.ts";

/** Answers that go on. */
export class Stories {
  readonly #inside: Inside;
  readonly #sendQueue: SendQueue;
  readonly #recall: Recall;

  /** Tells nothing yet. */
  constructor(inside: Inside, sendQueue: SendQueue, recall: Recall) {
    this.#inside = inside;
    this.#sendQueue = sendQueue;
    this.#recall = recall;
  }

  /**
   * Has a command's answer go on about a target. Where a story about it goes on in that room, whoever sent the command
   * joins it instead.
   */
  begin(inbox: InboxEvent, target: string, text: Required<Text>): void {
    const { roomId, eventId, sender } = inbox;
    const going = this.#recall.storiesOf(target).find((each) => each.roomId === roomId);
    if (going !== undefined) {
      return this.#recall.tell({ ...going, users: [...new Set([...going.users, sender])] });
    }
    const story = this.#recall.story(roomId, eventId) ??
      {
        eventId,
        roomId,
        ...inThread(threadOf(inbox)),
        users: [sender],
        lines: [],
        answered: false,
        edits: 0,
        alerts: 0,
      };
    this.#recall.tell({ ...story, lines: [...story.lines, { target, text, watched: true }] });
  }

  /**
   * What a command is answered with: the given texts, and where things have changed since they were made, the news.
   *
   * @param ends what came of it, by target
   */
  answer({ roomId, eventId }: InboxEvent, ends: readonly (readonly [target: string, text: Required<Text>])[]): Text {
    const story = this.#recall.story(roomId, eventId);
    const all = ends.map(([target, text]) =>
      story?.lines.find((line) => line.target === target) ?? { target, text, watched: false }
    );
    if (story !== undefined) this.#recall.tell({ ...story, lines: all, answered: true });
    return textOf(all);
  }

  /**
   * Tells how a change fares, in every answer that goes on about it.
   *
   * @param change what is to be remembered of the change; undefined: it is over, and with it the stories
   * @param isAlert whoever asked for it is called, in a message of its own
   */
  tell(target: string, text: Required<Text>, change: Change | undefined, isAlert: boolean): void {
    const { transaction, journal } = this.#inside;
    transaction(() => {
      this.#recall.change(target, { change });
      for (const story of this.#recall.storiesOf(target)) {
        const { edits, alerts, users } = story;
        const line = { target, text, watched: change !== undefined };
        const all = story.lines.map((each) => each.target === target ? line : each);
        if (story.answered) journal.say({ ...about(story, "edit", edits), form: "notice", text: textOf(all) });
        if (isAlert) {
          const called = mentioning(users, text);
          journal.say({ ...about(story, "alert", alerts), form: "text", text: called, mentions: users });
        }
        this.#recall.tell({
          ...story,
          lines: all,
          edits: edits + (story.answered ? 1 : 0),
          alerts: alerts + (isAlert ? 1 : 0),
        });
      }
    });
    this.#sendQueue.drain();
  }

  /** Another change is made: what is told of the one before is over. A start that was not ready yet says so. */
  overtake(target: string, stoppedBy: string | undefined): void {
    const { change } = this.#recall.of(target);
    if (change === undefined) return;
    if (change.after === 0 || change.told === "ready") return this.end(target);
    const afterMs = this.#inside.clock.now() - change.atMs;
    this.tell(target, superseded(target, stoppedBy, afterMs), undefined, false);
  }

  /** Nothing more is to be told of a change. */
  end(target: string): void {
    this.#inside.transaction(() => {
      this.#recall.change(target, { change: undefined });
      for (const story of this.#recall.storiesOf(target)) {
        const all = story.lines.map((line) => line.target === target ? { ...line, watched: false } : line);
        this.#recall.tell({ ...story, lines: all });
      }
    });
  }
}

function about(
  { roomId, eventId, threadId }: Story,
  kind: "edit" | "alert",
  sequence: number,
): Omit<Answer, "form" | "text"> {
  return { kind, sequence, roomId, eventId, reply: true, ...inThread(threadId) };
}

/** Nothing is said twice in one message. */
function textOf(all: Story["lines"]): Text {
  return lines([...new Map(all.map(({ text }) => [text.plain, text])).values()]);
}
