/**
 * The crash suite's ground on the sandbox: servers and person in this process, the operator as a separate process.
 *
 * @module
 */

import { firstAnswer, type Message, type Person } from "../../sandbox/person/mod.ts";
import type { CrashFixture, OperatorRun, Room, RoomMessage } from "./crash.ts";
import { type Fixture, PATIENCE_MS } from "./fixture.ts";
import type { OperatorOptions } from "../operator_process.ts";
import type { Sent } from "./wire.ts";

/** Returns the ground of a place. Every second run of the operator may watch its target. */
export function sandboxFixture(fixture: Fixture, options: Partial<OperatorOptions> = {}): CrashFixture {
  let runs = 0;
  return {
    operatorId: fixture.operatorId,
    startOperator: (): OperatorRun => {
      const permissions = (runs += 1) % 2 === 0 ? fixture.watching : {};
      const process = fixture.start({ ...options, environment: { ...options.environment, ...permissions } });
      return { ready: () => process.ready, kill: () => process.kill(), stop: () => process.stop() };
    },
    invite: async () => roomOf(fixture, await fixture.invite()),
    effects: () => Promise.resolve(fixture.effects.length),
  };
}

/** Returns a room of the place. */
export function roomOf(fixture: Fixture, roomId: string): Room {
  const { anna } = fixture;
  const messages = () => anna.messages(roomId).map(roomMessage);
  return {
    messages: messages,
    say: async (text) => {
      // Gives each command a room key of its own, so that a lost key is noticed.
      await anna.crypto.forgetSession(roomId);
      return await anna.say(roomId, text);
    },
    sendChatter: async (edits) => void await anna.say(roomId, "never mind", { edits }),
    until: async (look, what) => await anna.until(() => look() || undefined, PATIENCE_MS, () => what).then(() => {}),
    joined: () => fixture.joined(roomId),
    caughtUp: async () => {
      const last = (await page(anna, roomId, "b"))[0];
      const isThere = () =>
        last === undefined || messages().some(({ eventId }) => eventId === last.eventId) || undefined;
      // An edit appears at the place of the original message.
      await anna.until(() => isThere() || isEdit(last) || undefined, PATIENCE_MS, () => "the last message");
    },
    sent: () => page(anna, roomId, "f"),
  };
}

function roomMessage(message: Message): RoomMessage {
  const { eventId, sender, about, kind } = message;
  const readable = kind !== "undecryptable";
  return { eventId, sender, about, text: firstAnswer(message) ?? "", quiet: kind === "notice", readable };
}

/** Returns the encrypted events of a room: all from its beginning, or the last one. */
async function page(anna: Person, roomId: string, direction: "f" | "b"): Promise<(Sent & { eventId: string })[]> {
  const filter = encodeURIComponent(JSON.stringify({ types: ["m.room.encrypted"] }));
  const limit = direction === "f" ? 1_000_000 : 1;
  const path = `/rooms/${encodeURIComponent(roomId)}/messages?dir=${direction}&limit=${limit}&filter=${filter}`;
  const { chunk } = await anna.api.request("GET", path, undefined, PATIENCE_MS) as {
    chunk: { event_id: string; sender: string; content: Record<string, unknown> }[];
  };
  return chunk.map(({ event_id: eventId, sender, content }) => ({ eventId, sender, content }));
}

function isEdit(event: Sent | undefined): boolean {
  const relation = event?.content["m.relates_to"] as { rel_type?: string } | undefined;
  return relation?.rel_type === "m.replace";
}
