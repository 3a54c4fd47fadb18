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

Deno.test("Person asks again where an answer is lost, and says it once all the same", async () => {
  await using homeserver = new Homeserver();
  homeserver.register("anna", "secret-a");
  await using anna = await Person.login({ url: homeserver.url, user: "anna", password: "secret-a" });
  const roomId = await anna.createRoom([]);
  using lost = homeserver.fault({ method: "PUT", path: /\/send\//, times: 2, after: true, body: "drop" });
  await anna.say(roomId, "once");
  await anna.say(roomId, "more");
  await anna.until(() => anna.messages(roomId).some(({ body }) => body === "more") || undefined);
  assert.deepEqual(anna.messages(roomId).map(({ body }) => body), ["once", "more"]);
  assert.equal(lost.hits, 2);
});
