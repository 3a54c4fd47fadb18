import assert from "node:assert/strict";
import { TransientError } from "../../lib/errors.ts";
import { never, World } from "./world.ts";

Deno.test("Session.findSent() finds what was sent, encrypted or not, after a restart as another device", async (t) => {
  for (const encrypted of [true, false]) {
    await t.step(encrypted ? "encrypted" : "in clear", async () => {
      await using world = new World();
      const alice = await world.person("alice");
      let [roomId, eventId] = ["", ""];
      {
        await using running = (await world.open()).sync();
        roomId = await alice.createRoom([running.session.self], { encrypted });
        await running.joined(roomId);
        eventId = await running.say(roomId, "hello", "t1");
        for (let count = 0; count < 120; count += 1) await alice.say(roomId, `chatter ${count}`);
        assert.equal(await running.session.findSent("t1", roomId, never), eventId);
        const device = running.store.account.load()?.deviceId ?? "";
        world.homeserver.attacks.deleteDevice(running.session.self, device);
      }
      await using running = await world.open();
      assert.equal(await running.session.findSent("t1", roomId, never), eventId);
      assert.equal(await running.session.findSent("t2", roomId, never), undefined);
    });
  }
});

Deno.test("Session.findSent() ignores others' messages, and reads no page twice", async (t) => {
  await using world = new World();
  const alice = await world.person("alice");
  let roomId = "";
  {
    await using running = (await world.open()).sync();
    roomId = await running.roomWith(alice);
  }
  // It doesn't sync, so nothing else asks for pages.
  await using running = await world.open();
  const event = { event_id: "$1", content: { "openclaw_toggle.transaction_id": "t1" } };
  const page = (body: unknown) => world.homeserver.fault({ path: /messages$/, answer: { status: 200, body } });
  await t.step("a homeserver that does not filter", async () => {
    using _page = page({ chunk: [{ ...event, sender: "@mallory:localhost" }] });
    assert.equal(await running.session.findSent("t1", roomId, never), undefined);
  });
  await t.step("one that never ends", async () => {
    using endless = page({ chunk: [], end: "again" });
    assert.equal(await running.session.findSent("t1", roomId, never), undefined);
    assert.equal(endless.hits, 2);
  });
  await t.step("one that refuses", async () => {
    using _refused = world.homeserver.fault({
      path: /messages$/,
      answer: { status: 403, body: { errcode: "M_FORBIDDEN" } },
    });
    assert.equal(await running.session.findSent("t1", roomId, never), undefined);
  });
  await t.step("one that is away", async () => {
    using _away = world.homeserver.fault({ path: /messages$/, answer: { status: 502 } });
    await assert.rejects(running.session.findSent("t1", roomId, never), TransientError);
  });
});
