import assert from "node:assert/strict";
import { Homeserver } from "../../sandbox/homeserver/mod.ts";
import { Person } from "../../sandbox/person/mod.ts";
import { twoPersonsChat } from "./person_chat.ts";

Deno.test("Person chats encrypted with another on the sandbox homeserver", async () => {
  await using homeserver = new Homeserver();
  homeserver.register("anna", "secret-a");
  homeserver.register("bert", "secret-b");
  await twoPersonsChat({
    url: homeserver.url,
    anna: { user: "anna", password: "secret-a" },
    bert: { user: "bert", password: "secret-b" },
  });
});

Deno.test("Person.next() rejects at its deadline, and says what was seen", async () => {
  await using homeserver = new Homeserver();
  homeserver.register("anna", "secret-a");
  await using anna = await Person.login({ url: homeserver.url, user: "anna", password: "secret-a" });
  const roomId = await anna.createRoom([]);
  const waiter = anna.next(({ body }) => body === "never said", 200);
  const heard = anna.next(({ body }) => body === "something else");
  await anna.say(roomId, "something else");
  await heard;
  const before = performance.now();
  await assert.rejects(waiter, /seen: .*something else.*200 ms are over/);
  assert.ok(performance.now() - before < 1_000);
});
