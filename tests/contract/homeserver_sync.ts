/**
 * What is relied on of syncing: tokens, long polls, filters, ages and to-device messages.
 *
 * @module
 */
import assert from "node:assert/strict";
import { type Body, type Client, type ContractCase, textsIn } from "./homeserver_client.ts";

/** Stored filter of a client that does not want to hear itself. */
const withoutSender = (userId: string) => ({ room: { timeline: { not_senders: [userId], limit: 20 } } });

function typingIn(roomId: string): string {
  return JSON.stringify({ room: { ephemeral: { types: ["m.typing"], rooms: [roomId] } } });
}

async function type(client: Client, roomId: string, typing: boolean): Promise<void> {
  const path = `/rooms/${encodeURIComponent(roomId)}/typing/${encodeURIComponent(client.userId)}`;
  await client.get("PUT", path, { typing, ...typing ? { timeout: 30_000 } : {} });
}

/** Users of each `m.typing` event of a room in a sync response. */
function typists(body: Body, roomId: string): string[][] {
  const events: Body[] = body.rooms?.join?.[roomId]?.ephemeral?.events ?? [];
  return events.filter(({ type }) => type === "m.typing").map(({ content }) => content.user_ids);
}

/** The cases. */
export const syncCases: readonly ContractCase[] = [
  {
    name: "a token or a filter that was never given out is 400",
    synapseOnly: "tokens are used as they were given out, and filters are given whole",
    run: async (world) => {
      const user = await world.user();
      assert.equal((await user.ask("GET", "/sync?since=made-up")).status, 400);
      assert.equal((await user.ask("GET", "/sync?filter=999")).status, 400);
      await user.refused(404, "M_NOT_FOUND", "GET", `/user/${encodeURIComponent(user.userId)}/filter/999`);
    },
  },
  {
    name: "a first sync shows the joined rooms: at most ten events, all state before them, one-time key counts",
    run: async (world) => {
      const { owner, guest, roomId } = await world.together();
      for (let count = 0; count < 12; count++) await owner.say(roomId, `early ${count}`);
      // A server with caches may show its last events a moment later.
      let body = await guest.sync();
      for (let tries = 0; tries < 20; tries++) {
        if (textsIn(body.rooms.join[roomId].timeline.events).includes("early 11")) break;
        body = await guest.sync({ timeout: tries });
      }
      const { timeline, state } = body.rooms.join[roomId];
      assert.deepEqual([timeline.events.length, timeline.limited], [10, true]);
      assert.ok(state.events.some(({ type }: Body) => type === "m.room.create"));
      assert.equal(state.events.filter(({ type }: Body) => type === "m.room.member").length, 2);
      assert.equal(body.device_one_time_keys_count?.signed_curve25519 ?? 0, 0);
      assert.deepEqual(body.device_unused_fallback_key_types ?? [], []);
    },
  },
  {
    name: "a token brings what came after it, again and again, and its successor brings nothing",
    run: async (world) => {
      const { owner, guest, roomId } = await world.together();
      const { next_batch: since } = await guest.sync();
      await owner.say(roomId, "a");
      await guest.say(roomId, "b");
      const isThere = (body: Body) =>
        textsIn(body.rooms?.join?.[roomId]?.timeline.events ?? []).includes("b") || undefined;
      await guest.syncUntil(since, isThere);
      // Synapse may answer an identical request from its cache: ask a little differently each time.
      for (const timeout of [0, 1, 2]) {
        const { rooms, next_batch } = await guest.sync({ since, timeout });
        assert.deepEqual(textsIn(rooms.join[roomId].timeline.events), ["a", "b"]);
        assert.deepEqual(rooms.join[roomId].state?.events ?? [], []);
        assert.equal((await guest.sync({ since: next_batch })).rooms, undefined);
      }
    },
  },
  {
    name: "a long poll wakes with the event, and without one ends at its time",
    run: async (world) => {
      const { owner, guest, roomId } = await world.together();
      const { next_batch: since } = await guest.sync();
      const before = performance.now();
      const poll = guest.sync({ since, timeout: 60_000 });
      await owner.say(roomId, "wake up");
      const { rooms, next_batch } = await poll;
      assert.deepEqual(textsIn(rooms.join[roomId].timeline.events), ["wake up"]);
      assert.ok(performance.now() - before < 30_000);
      const quietFrom = performance.now();
      const quiet = await guest.sync({ since: next_batch, timeout: 400 });
      const tookMs = performance.now() - quietFrom;
      assert.equal(quiet.rooms, undefined);
      assert.ok(tookMs > 350 && tookMs < 30_000, `${tookMs} ms`);
    },
  },
  {
    name: "events tell their age in milliseconds, and it grows",
    synapseOnly: "without it, an event's own time counts",
    run: async (world) => {
      const { owner, guest, roomId } = await world.together();
      const { next_batch: since } = await guest.sync();
      await owner.say(roomId, "x");
      const look = async () => (await guest.sync({ since })).rooms.join[roomId].timeline.events[0].unsigned.age;
      const age = await look();
      assert.ok(age >= 0 && age < 60_000);
      await guest.sync({ since: (await guest.sync({ since })).next_batch, timeout: 150 });
      assert.ok(await look() >= age + 100);
    },
  },
  {
    name: "events are whole: id, sender, time, and no room id",
    run: async (world) => {
      const { owner, guest, roomId } = await world.together();
      const { next_batch: since } = await guest.sync();
      const eventId = await owner.say(roomId, "x");
      const { found: event } = await guest.syncUntil(since, (body) => body.rooms?.join?.[roomId]?.timeline.events[0]);
      assert.deepEqual([event.event_id, event.sender, event.type], [eventId, owner.userId, "m.room.message"]);
      assert.equal(event.room_id, undefined);
      assert.ok(Math.abs(event.origin_server_ts - Date.now()) < 60_000);
    },
  },
  {
    name: "a stored filter is read back and honoured: not_senders neither shows nor wakes",
    run: async (world) => {
      const { owner, guest, roomId } = await world.together();
      const path = `/user/${encodeURIComponent(guest.userId)}/filter`;
      const { filter_id: filter } = await guest.get("POST", path, withoutSender(guest.userId));
      const { room: { timeline } } = await guest.get("GET", `${path}/${filter}`);
      assert.deepEqual(timeline, withoutSender(guest.userId).room.timeline);
      const { next_batch: since } = await guest.sync({ filter });
      const poll = guest.sync({ since, filter, timeout: 20_000 });
      await guest.say(roomId, "to myself");
      await owner.say(roomId, "to you");
      assert.deepEqual(textsIn((await poll).rooms.join[roomId].timeline.events), ["to you"]);
      const { rooms } = await guest.sync({ since, filter });
      assert.deepEqual(textsIn(rooms.join[roomId].timeline.events), ["to you"]);
      assert.ok(!rooms.join[roomId].timeline.limited);
    },
  },
  {
    name: "a filter by type lets through what it names",
    run: async (world) => {
      const { owner, guest, roomId } = await world.together();
      const filter = { room: { timeline: { types: ["m.room.message"], not_types: ["m.room.mess"] } } };
      const { next_batch: since } = await guest.sync({ filter });
      await owner.get("PUT", `/rooms/${encodeURIComponent(roomId)}/state/m.room.topic/`, { topic: "t" });
      await owner.say(roomId, "x");
      await guest.syncUntil(since, (body) => textsIn(body.rooms?.join?.[roomId]?.timeline.events ?? [])[0]);
      const { timeline } = (await guest.sync({ since, filter })).rooms.join[roomId];
      assert.deepEqual(timeline.events.map(({ type }: Body) => type), ["m.room.message"]);
    },
  },
  {
    name: "full_state answers at once, whatever the timeout",
    synapseOnly: "it is asked for without a timeout",
    run: async (world) => {
      const { guest } = await world.together();
      const { next_batch: since } = await guest.sync();
      const before = performance.now();
      await guest.sync({ since, full_state: true, timeout: 60_000 });
      assert.ok(performance.now() - before < 30_000);
    },
  },
  {
    name: "full_state answers with the state of every joined room, and no messages",
    run: async (world) => {
      const { guest, roomId } = await world.together();
      const { next_batch: since } = await guest.sync();
      const { rooms } = await guest.sync({ since, full_state: true });
      assert.deepEqual(textsIn(rooms.join[roomId].timeline?.events ?? []), []);
      assert.ok(rooms.join[roomId].state.events.some(({ type }: Body) => type === "m.room.create"));
    },
  },
  {
    name: "a to-device message comes until it is acknowledged by a later token, and then never again",
    run: async (world) => {
      const [sender, receiver] = [await world.user(), await world.user()];
      const { next_batch: since } = await receiver.sync();
      const messages = { [receiver.userId]: { [receiver.deviceId]: { a: 1 } } };
      await sender.get("PUT", "/sendToDevice/org.example.test/txn", { messages });
      const expected = [{ type: "org.example.test", sender: sender.userId, content: { a: 1 } }];
      const first = await receiver.sync({ since, timeout: 5_000 });
      assert.deepEqual(first.to_device.events, expected);
      // Synapse may answer an identical request from its cache: ask a little differently each time.
      assert.deepEqual((await receiver.sync({ since, timeout: 1 })).to_device.events, expected);
      assert.equal((await receiver.sync({ since: first.next_batch })).to_device, undefined);
      assert.equal((await receiver.sync({ since, timeout: 2 })).to_device, undefined);
    },
  },
  {
    name: "who is typing comes in the rooms that the filter names, and wakes a long poll",
    run: async (world) => {
      const { owner, guest, roomId } = await world.together();
      const { next_batch: since } = await guest.sync();
      const filter = typingIn(roomId);
      const poll = guest.sync({ since, timeout: 20_000, filter });
      await type(owner, roomId, true);
      const first = await poll;
      assert.deepEqual(typists(first, roomId), [[owner.userId]]);
      await type(owner, roomId, false);
      const second = await guest.sync({ since: first.next_batch, timeout: 20_000, filter });
      assert.deepEqual(typists(second, roomId), [[]]);
    },
  },
  {
    name: "who is typing doesn't come in rooms that the filter doesn't name",
    synapseOnly: "it is taken in from any room, and costs no more than a response",
    run: async (world) => {
      const { owner, guest, roomId } = await world.together();
      const { next_batch: since } = await guest.sync();
      const poll = guest.sync({ since, timeout: 20_000, filter: typingIn(roomId) });
      await type(owner, roomId, true);
      await poll;
      const elsewhere = await guest.sync({ since, timeout: 300, filter: typingIn("!elsewhere:example.org") });
      assert.deepEqual(typists(elsewhere, roomId), []);
    },
  },
  {
    name: "an event is found by its id, with its sender, by members only",
    run: async (world) => {
      const { owner, guest, roomId } = await world.together();
      const eventId = await owner.say(roomId, "who said that?");
      const event = `/rooms/${encodeURIComponent(roomId)}/event/${encodeURIComponent(eventId)}`;
      assert.equal((await guest.get("GET", event)).sender, owner.userId);
      const stranger = await world.user();
      assert.ok([403, 404].includes((await stranger.ask("GET", event)).status));
    },
  },
  {
    name: "a to-device message wakes a long poll, and is sent once for each transaction id",
    run: async (world) => {
      const [sender, receiver] = [await world.user(), await world.user()];
      const { next_batch: since } = await receiver.sync();
      const poll = receiver.sync({ since, timeout: 20_000 });
      const send = (a: number) =>
        sender.get("PUT", "/sendToDevice/org.example.test/txn", {
          messages: { [receiver.userId]: { [receiver.deviceId]: { a } } },
        });
      await send(1);
      const look = (body: Body) => body.to_device?.events[0];
      const first = await poll;
      const { found, next } = look(first) === undefined
        ? await receiver.syncUntil(first.next_batch, look)
        : { found: look(first), next: first.next_batch };
      assert.equal(found.content.a, 1);
      await send(2);
      assert.equal((await receiver.sync({ since: next, timeout: 300 })).to_device, undefined);
    },
  },
  {
    name: "a to-device message to all devices comes to each; to an unknown device or user it is lost",
    run: async (world) => {
      const [sender, first] = [await world.user(), await world.user()];
      const second = await world.login(first.userId);
      const messages = {
        [first.userId]: { "*": { a: 1 } },
        [sender.userId]: { UNKNOWN: { a: 2 } },
        [`@nobody-here:${world.server.serverName}`]: { "*": { a: 3 } },
      };
      await sender.get("PUT", "/sendToDevice/org.example.test/txn", { messages });
      for (const device of [first, second]) {
        const { next_batch: since, to_device } = await device.sync();
        const { events } = to_device ?? (await device.sync({ since, timeout: 5_000 })).to_device;
        assert.deepEqual(events.map(({ content }: Body) => content), [{ a: 1 }]);
      }
    },
  },
  {
    name: "more than a hundred to-device messages come in several syncs, in order, none twice",
    run: async (world) => {
      const [sender, receiver] = [await world.user(), await world.user()];
      let { next_batch: since } = await receiver.sync();
      for (let count = 0; count < 105; count++) {
        const messages = { [receiver.userId]: { [receiver.deviceId]: { count } } };
        await sender.get("PUT", `/sendToDevice/org.example.test/${count}`, { messages });
      }
      const pages: number[][] = [];
      for (let count = 0; pages.flat().length < 105 && count < 105; count++) {
        const body = await receiver.sync({ since, timeout: 1_000 });
        pages.push((body.to_device?.events ?? []).map(({ content }: Body) => content.count));
        since = body.next_batch;
      }
      assert.deepEqual(pages.flat(), Array.from({ length: 105 }, (_, count) => count));
      assert.equal((await receiver.sync({ since })).to_device, undefined);
    },
  },
];
