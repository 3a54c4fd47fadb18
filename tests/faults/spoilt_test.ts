import assert from "node:assert/strict";
import fc from "fast-check";
import { firstAnswer, type JsonObject } from "../../sandbox/person/mod.ts";
import { spoilt } from "./mutation.ts";
import { Fixture, PATIENCE_MS } from "./fixture.ts";

const EVENTS = 300;

Deno.test(`${EVENTS} corrupted copies of commands have no effect, and the operator keeps running`, async () => {
  await using fixture = await Fixture.open();
  const { anna, homeserver, operatorId } = fixture;
  await using operator = fixture.start();
  const roomId = await fixture.invite();
  await fixture.joined(roomId);
  const answered = async (eventId: string) => {
    const isThere = () =>
      anna.messages(roomId).some((message) => {
        return message.about === eventId && message.kind === "notice" && firstAnswer(message) !== undefined;
      });
    await anna.until(() => isThere() || undefined, PATIENCE_MS, () => `an answer\n${operator.lines.join("\n")}`);
  };
  const said = [await anna.say(roomId, "start"), await anna.say(roomId, "stop")];
  for (const eventId of said) await answered(eventId);
  const replicas = [1, 0];
  assert.deepEqual(fixture.effects, replicas);

  const path = `/rooms/${encodeURIComponent(roomId)}/messages?dir=b&limit=100`;
  const { chunk } = await anna.api.request("GET", path) as { chunk: JsonObject[] };
  const originals = chunk.filter((event) => said.includes(String(event["event_id"])))
    .map(({ type, content }) => ({ type, content: content as JsonObject }));
  assert.equal(originals.length, 2);
  const clear = { type: "m.room.message", content: { msgtype: "m.text", body: "start" } };
  // If anything untrusted were accepted, a copy or the clear text would be executed.
  for (
    const { type, content } of fc.sample(spoilt<{ type: unknown; content: unknown }>([...originals, clear]), EVENTS)
  ) {
    if (typeof type !== "string" || typeof content !== "object" || content === null) continue;
    homeserver.attacks.inject(roomId, { type, sender: anna.userId, content: content as JsonObject });
  }
  await answered(await anna.say(roomId, "status"));
  assert.deepEqual(fixture.effects, replicas);
  assert.ok(
    anna.messages(roomId).filter(({ sender }) => sender === operatorId).length < 30,
    "it has been talked into talking",
  );
  assert.equal(await operator.stop(), 0);
});
