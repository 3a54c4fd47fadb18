import assert from "node:assert/strict";
import type { Json } from "../../lib/json.ts";
import { ageOf, type Message, messageOf, threadOf } from "../../lib/operator/message.ts";
import type { InboxEvent } from "../../lib/session/mod.ts";
import { decrypted, self } from "./fakes.ts";

const replyRelation = { "m.in_reply_to": { event_id: "$other" } };
const editRelation = { rel_type: "m.replace", event_id: "$other" };
const inThread = { rel_type: "m.thread", event_id: "$root", "m.in_reply_to": { event_id: "$other" } };

const plain: InboxEvent = {
  seq: 1,
  roomId: "!r",
  eventId: "$e",
  sender: "@a:b",
  json: {},
  receivedAtMs: 0,
  ageMs: 0,
};

function read(content: Json, outer: Json = {}): Message | undefined {
  const payload = decrypted("start", { sessionId: "s", messageIndex: 0 }, { content });
  assert.ok(payload.kind === "decrypted");
  return messageOf({ ...plain, json: { content: outer } }, payload);
}

function inWords(message: Message | undefined): string {
  if (message === undefined) return "none";
  const { text, isEdit, repliedTo } = message;
  if (repliedTo === undefined) return `${isEdit ? "edit" : "plain"}: ${text}`;
  const { eventIds, quotedUser } = repliedTo;
  return `reply to ${eventIds.join("+")}${quotedUser === undefined ? "" : ` of ${quotedUser}`}: ${text}`;
}

Deno.test("messageOf() distinguishes plain messages, edits, replies and other types", async (t) => {
  const rows: [expected: string, name: string, content: Json, outer?: Json][] = [
    ["plain: start", "a text", {}],
    ["none", "a notice", { msgtype: "m.notice" }],
    ["none", "no type", { msgtype: undefined }],
    ["none", "a body that is no string", { body: 5 }],
    ["edit: start", "an edit by its relation", { "m.relates_to": editRelation }],
    ["edit: start", "an edit by its relation outside", {}, { "m.relates_to": editRelation }],
    ["edit: stop", "an edit by its new content", { body: "* stop", "m.new_content": { body: "stop" } }],
    ["edit: start", "an edit by its new content outside", {}, { "m.new_content": { body: "stop" } }],
    ["edit: start", "new content of no shape", { "m.new_content": {} }],
    ["reply to $other: start", "a reply", { "m.relates_to": replyRelation }],
    ["reply to $other: start", "a reply by its relation outside", {}, { "m.relates_to": replyRelation }],
    ["reply to $other+$third: start", "different replies inside and outside", { "m.relates_to": replyRelation }, {
      "m.relates_to": { "m.in_reply_to": { event_id: "$third" } },
    }],
    ["plain: start", "a message in a thread", { "m.relates_to": { ...inThread, is_falling_back: true } }],
    ["reply to $other: start", "a reply in a thread", { "m.relates_to": { ...inThread, is_falling_back: false } }],
    ["reply to $other: start", "a reply outside, a thread inside", {
      "m.relates_to": { ...inThread, is_falling_back: true },
    }, { "m.relates_to": replyRelation }],
    ["plain: start", "relations of no shape", { "m.relates_to": "m.replace" }, { "m.relates_to": null }],
  ];
  for (const [expected, name, content, outer] of rows) {
    await t.step(`${name}: ${expected}`, () => assert.equal(inWords(read(content, outer)), expected));
  }
});

Deno.test("messageOf() takes off what a reply quotes, and sees whom", async (t) => {
  const rows: [expected: string, body: string][] = [
    ["reply to $other of @claw:example.org: start", "> <@claw:example.org> clawdbot is off\n\nstart"],
    ["reply to $other of @bob:x: start", "> <@bob:x> one\n> two\n>\n> > <@claw:example.org> three\n\nstart"],
    ["reply to $other of @bob:x: start", "> * <@bob:x> waves\n\nstart"],
    ["reply to $other of @bob:x: start\n> more", "> <@bob:x> one\nstart\n> more"],
    ["reply to $other: start", "> one\n\nstart"],
    ["reply to $other: ", ">\n"],
    ["reply to $other: > only this", "> only this"],
    ["reply to $other: start", "start"],
  ];
  for (const [expected, body] of rows) {
    await t.step(JSON.stringify(body), () => {
      assert.equal(inWords(read({ body, "m.relates_to": replyRelation })), expected);
    });
  }
  assert.equal(inWords(read({ body: "> <@claw:example.org> x\n\nstart" })), "plain: > <@claw:example.org> x\n\nstart");
});

Deno.test("messageOf() finds who is mentioned", async (t) => {
  const rows: [expected: boolean, mentions: unknown][] = [
    [true, { user_ids: [self] }],
    [false, { user_ids: ["@other:example.org"] }],
    [false, { user_ids: self }],
    [false, null],
    [false, undefined],
  ];
  for (const [expected, mentions] of rows) {
    await t.step(`${JSON.stringify(mentions)}: ${expected}`, () => {
      assert.equal(read({ "m.mentions": mentions })?.mentions.includes(self), expected);
    });
  }
});

Deno.test("threadOf() is the thread that stands outside of a ciphertext", async (t) => {
  const rows: [expected: string | undefined, relation: unknown][] = [
    ["$root", inThread],
    ["$root", { rel_type: "m.thread", event_id: "$root" }],
    [undefined, replyRelation],
    [undefined, editRelation],
    [undefined, { rel_type: "m.thread" }],
    [undefined, "m.thread"],
  ];
  for (const [expected, relation] of rows) {
    await t.step(JSON.stringify(relation), () => {
      assert.equal(threadOf({ ...plain, json: { content: { "m.relates_to": relation } } }), expected);
    });
  }
});

Deno.test("ageOf() trusts the server's age first", async (t) => {
  const rows: [expected: number, name: string, event: Partial<InboxEvent>][] = [
    [1_500, "age and the time since", { ageMs: 500, receivedAtMs: 9_000 }],
    [1_000, "a negative age", { ageMs: -500, receivedAtMs: 9_000 }],
    [500, "a clock set back since", { ageMs: 500, receivedAtMs: 99_000 }],
    [4_000, "no age", { ageMs: undefined, json: { origin_server_ts: 6_000 } }],
    [0, "no age, sent in the future", { ageMs: undefined, json: { origin_server_ts: 60_000 } }],
    [1_000, "neither", { ageMs: undefined, receivedAtMs: 9_000, json: { origin_server_ts: "6000" } }],
  ];
  for (const [expected, name, event] of rows) {
    await t.step(`${name}: ${expected} ms`, () => assert.equal(ageOf({ ...plain, ...event }, 10_000), expected));
  }
});
