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
  const missed = async (deadlineMs: number): Promise<string> => {
    const late = anna.next(({ body }) => body === "never said", deadlineMs).then(() => "heard", String);
    const heard = anna.next(({ body }) => body === `within ${deadlineMs}`);
    await anna.say(roomId, `within ${deadlineMs}`);
    await heard;
    return await late;
  };
  // How long a message takes on this machine, nobody knows: the deadline is put off until one is seen before it.
  let deadlineMs = 200;
  let message = await missed(deadlineMs);
  while (message.includes("seen: []") && deadlineMs < 20_000) message = await missed(deadlineMs *= 10);
  assert.equal(
    message,
    `Error: Cannot wait longer for a message; seen: [["@anna:localhost","text","within ${deadlineMs}"]]: ` +
      `${deadlineMs} ms are over`,
  );
});

Deno.test("Person retries after a lost response, and still sends the message once", async () => {
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
