import assert from "node:assert/strict";
import { ageOf, messageOf } from "../../lib/operator/message.ts";
import type { InboxEvent } from "../../lib/operator/mod.ts";
import { decrypted, self } from "./fakes.ts";

const replyRelation = { "m.in_reply_to": { event_id: "$other" } };
const editRelation = { rel_type: "m.replace", event_id: "$other" };
const inThread = { rel_type: "m.thread", event_id: "$root", "m.in_reply_to": { event_id: "$other" } };

Deno.test("messageOf() tells plain messages from edits, replies and what is no text", async (t) => {
  const rows: [expected: string, name: string, content: Record<string, unknown>, outerRelation?: unknown][] = [
    ["plain: start", "a text", {}],
    ["none", "a notice", { msgtype: "m.notice" }],
    ["none", "no type", { msgtype: undefined }],
    ["none", "a body that is no string", { body: 5 }],
    ["edit: start", "an edit by its relation", { "m.relates_to": editRelation }],
    ["edit: start", "an edit by its relation outside", {}, editRelation],
    ["edit: stop", "an edit by its new content", { body: "* stop", "m.new_content": { body: "stop" } }],
    ["edit: start", "new content of no shape", { "m.new_content": {} }],
    ["reply: start", "a reply", { "m.relates_to": replyRelation }],
    ["reply: start", "a reply by its relation outside", {}, replyRelation],
    ["plain: start", "a message in a thread", { "m.relates_to": { ...inThread, is_falling_back: true } }],
    ["reply: start", "a reply in a thread", { "m.relates_to": { ...inThread, is_falling_back: false } }],
    ["reply: start", "a reply outside, a thread inside", {
      "m.relates_to": { ...inThread, is_falling_back: true },
    }, replyRelation],
    ["plain: start", "relations of no shape", { "m.relates_to": "m.replace" }, null],
  ];
  for (const [expected, name, content, outerRelation] of rows) {
    await t.step(`${name}: ${expected}`, () => {
      const payload = decrypted("start", { sessionId: "s", messageIndex: 0 }, { content, outerRelation });
      assert.ok(payload.kind === "decrypted");
      const message = messageOf(payload, self);
      assert.equal(message === undefined ? "none" : `${message.form}: ${message.text}`, expected);
    });
  }
});

Deno.test("messageOf() finds our mention", async (t) => {
  const rows: [expected: boolean, mentions: unknown][] = [
    [true, { user_ids: [self] }],
    [false, { user_ids: ["@other:example.org"] }],
    [false, { user_ids: self }],
    [false, null],
    [false, undefined],
  ];
  for (const [expected, mentions] of rows) {
    await t.step(`${JSON.stringify(mentions)}: ${expected}`, () => {
      const content = { "m.mentions": mentions };
      const payload = decrypted("start", { sessionId: "s", messageIndex: 0 }, { content });
      assert.ok(payload.kind === "decrypted");
      assert.equal(messageOf(payload, self)?.mentionsUs, expected);
    });
  }
});

Deno.test("ageOf() trusts the server's age first", async (t) => {
  const rows: [expected: number, name: string, event: Partial<InboxEvent>][] = [
    [1_500, "age and the time since", { ageMs: 500, receivedAtMs: 9_000 }],
    [1_000, "a negative age", { ageMs: -500, receivedAtMs: 9_000 }],
    [500, "a clock set back since", { ageMs: 500, receivedAtMs: 99_000 }],
    [4_000, "no age", { ageMs: undefined, event: { origin_server_ts: 6_000 } }],
    [0, "no age, sent in the future", { ageMs: undefined, event: { origin_server_ts: 60_000 } }],
    [1_000, "neither", { ageMs: undefined, receivedAtMs: 9_000, event: { origin_server_ts: "6000" } }],
  ];
  const plain: InboxEvent = {
    seq: 1,
    roomId: "!r",
    eventId: "$e",
    sender: "@a:b",
    event: {},
    receivedAtMs: 0,
    ageMs: 0,
  };
  for (const [expected, name, event] of rows) {
    await t.step(`${name}: ${expected} ms`, () => assert.equal(ageOf({ ...plain, ...event }, 10_000), expected));
  }
});
