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
  const hear = async (text: string): Promise<void> => {
    const heard = anna.next(({ body }) => body === text);
    await anna.say(roomId, text);
    await heard;
  };
  // Ten times as long as a message takes on this machine, so that one is seen before the deadline.
  const before = performance.now();
  await hear("the first");
  const deadlineMs = Math.ceil(10 * (performance.now() - before));
  const waiter = anna.next(({ body }) => body === "never said", deadlineMs);
  await hear("something else");
  await assert.rejects(waiter, (error: Error) => {
    assert.match(error.message, /seen: .*something else/);
    assert.doesNotMatch(error.message, /the first/);
    assert.ok(error.message.endsWith(`${deadlineMs} ms are over`), error.message);
    return true;
  });
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
