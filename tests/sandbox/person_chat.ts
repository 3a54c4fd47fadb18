/**
 * Two persons chat encrypted, in every way that they can: the same on any homeserver.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Person } from "../../sandbox/person/mod.ts";

/** Where they chat, and as whom. */
export interface Chat {
  /** Base URL of the homeserver. */
  readonly url: string;
  /** The first person's account. */
  readonly anna: { readonly user: string; readonly password: string };
  /** The second person's account. */
  readonly bert: { readonly user: string; readonly password: string };
}

/** Plays the conversation. */
export async function twoPersonsChat(chat: Chat): Promise<void> {
  await using anna = await Person.login({ url: chat.url, ...chat.anna, crossSigning: true });
  await using bert = await Person.login({ url: chat.url, ...chat.bert });
  assert.notEqual(await anna.crypto.masterKey(), undefined);

  const roomId = await anna.createRoom([bert.userId]);
  await bert.until(() => bert.invitations.has(roomId) || undefined);
  await bert.join(roomId);
  await anna.until(() => anna.members(roomId).length === 2 || undefined);

  const heard = bert.next(({ sender }) => sender === anna.userId);
  const said = await anna.say(roomId, "hello", { mentions: [bert.userId], html: "<b>hello</b>" });
  const hello = await heard;
  assert.deepEqual(
    { ...hello, sentAtMs: 0 },
    {
      roomId,
      eventId: said,
      sender: anna.userId,
      kind: "text",
      body: "hello",
      html: "<b>hello</b>",
      encrypted: true,
      about: undefined,
      mentions: [bert.userId],
      earlier: [],
      sentAtMs: 0,
      transactionId: undefined,
    },
  );

  const replied = anna.next(({ sender, body }) => sender === bert.userId && body === "hi");
  await bert.say(roomId, "hi", { replyTo: said });
  assert.equal((await replied).about, said);

  const edited = bert.next(({ eventId }) => eventId === said);
  await anna.say(roomId, "hello again", { edits: said });
  const { body, earlier, encrypted } = await edited;
  assert.deepEqual({ body, earlier, encrypted }, { body: "hello again", earlier: ["hello"], encrypted: true });

  const reacted = anna.next(({ kind }) => kind === "m.reaction");
  await bert.react(roomId, said, "🦞");
  const reaction = await reacted;
  assert.deepEqual([reaction.body, reaction.about], ["🦞", said]);

  const clear = bert.next(({ body }) => body === "in clear");
  await anna.say(roomId, "in clear", { clear: true });
  assert.equal((await clear).encrypted, false);

  const again = bert.next(({ body }) => body === "after a new session");
  await anna.crypto.forgetSession(roomId);
  await anna.say(roomId, "after a new session");
  assert.equal((await again).encrypted, true);

  await bert.leave(roomId);
  await anna.until(() => anna.members(roomId).length === 1 || undefined);
}
