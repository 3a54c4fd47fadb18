import assert from "node:assert/strict";
import type { Answer } from "../../lib/session/mod.ts";
import { outgoingEvent } from "../../lib/session/content.ts";

const answer: Answer = {
  kind: "answer",
  sequence: 0,
  roomId: "!r:x",
  eventId: "$command",
  form: "notice",
  text: { plain: "clawdbot is off", html: "<b>clawdbot</b> is off" },
  reply: true,
};

Deno.test("outgoingEvent() returns a notice that is a reply and mentions nobody", () => {
  assert.deepEqual(outgoingEvent(answer, undefined), {
    type: "m.room.message",
    content: {
      msgtype: "m.notice",
      body: "clawdbot is off",
      format: "org.matrix.custom.html",
      formatted_body: "<b>clawdbot</b> is off",
      "m.mentions": {},
      "m.relates_to": { "m.in_reply_to": { event_id: "$command" } },
    },
  });
});

Deno.test("outgoingEvent() makes a text that mentions people and replies to nothing", () => {
  const alert: Answer = { ...answer, form: "text", text: { plain: "ready" }, reply: false, mentions: ["@a:x"] };
  assert.deepEqual(outgoingEvent(alert, undefined).content, {
    msgtype: "m.text",
    body: "ready",
    "m.mentions": { user_ids: ["@a:x"] },
  });
});

Deno.test("outgoingEvent() makes an edit whose outer body reads well without edits", () => {
  const { content } = outgoingEvent({ ...answer, text: { plain: "ready" } }, "$first");
  assert.deepEqual(content, {
    msgtype: "m.notice",
    body: "* ready",
    "m.mentions": {},
    "m.new_content": { msgtype: "m.notice", body: "ready", "m.mentions": {} },
    "m.relates_to": { rel_type: "m.replace", event_id: "$first" },
  });
});

Deno.test("outgoingEvent() makes a reaction to the command", () => {
  assert.deepEqual(outgoingEvent({ ...answer, form: "reaction", text: { plain: "🦞" } }, undefined), {
    type: "m.reaction",
    content: { "m.relates_to": { rel_type: "m.annotation", event_id: "$command", key: "🦞" } },
  });
});

Deno.test("outgoingEvent() answers a command in a thread within the thread, with the reply inside", () => {
  const relation = (changes: Partial<Answer>) =>
    outgoingEvent({ ...answer, threadId: "$root", ...changes }, undefined).content["m.relates_to"];
  const inThread = { rel_type: "m.thread", event_id: "$root", "m.in_reply_to": { event_id: "$command" } };
  assert.deepEqual(relation({}), { ...inThread, is_falling_back: false });
  assert.deepEqual(relation({ reply: false }), { ...inThread, is_falling_back: true });
});
