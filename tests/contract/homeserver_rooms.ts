/**
 * What is relied on of rooms: invitations, membership, state, sending and history.
 *
 * @module
 */
import assert from "node:assert/strict";
import { type Body, type Client, type ContractCase, eventually, textsIn } from "./homeserver_client.ts";

const encryption = { type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } };

function at(roomId: string, tail: string): string {
  return `/rooms/${encodeURIComponent(roomId)}${tail}`;
}

/** All pages of a room's history, until there are no more. */
async function history(client: Client, roomId: string, query: Record<string, string>): Promise<Body[]> {
  const events: Body[] = [];
  for (let from: string | undefined = query["from"]; from !== undefined;) {
    const page = await client.get("GET", at(roomId, `/messages?${new URLSearchParams({ ...query, from })}`));
    events.push(...page.chunk);
    from = page.chunk.length > 0 ? page.end : undefined;
  }
  return events;
}

/** The cases. */
export const roomCases: readonly ContractCase[] = [
  {
    name: "a room is made with its initial state; state that is not there is 404 M_NOT_FOUND",
    run: async (world) => {
      const user = await world.user();
      const roomId = await user.createRoom({ initial_state: [encryption], name: "n", topic: "t" });
      assert.deepEqual(await user.get("GET", at(roomId, "/state/m.room.encryption")), encryption.content);
      assert.deepEqual(await user.get("GET", at(roomId, "/state/m.room.encryption/")), encryption.content);
      assert.equal((await user.get("GET", at(roomId, "/state/m.room.name/"))).name, "n");
      await user.refused(404, "M_NOT_FOUND", "GET", at(roomId, "/state/m.room.tombstone/"));
      const types = (await user.get("GET", at(roomId, "/state"))).map(({ type }: Body) => type);
      for (const type of ["create", "member", "power_levels", "join_rules", "history_visibility", "encryption"]) {
        assert.ok(types.includes(`m.room.${type}`), type);
      }
    },
  },
  {
    name: "an alias leads to its room, an unknown one is 404 M_NOT_FOUND",
    run: async (world) => {
      const user = await world.user();
      const name = crypto.randomUUID();
      const alias = `#${name}:${world.server.serverName}`;
      const path = `/directory/room/${encodeURIComponent(alias)}`;
      await user.refused(404, "M_NOT_FOUND", "GET", path);
      const roomId = await user.createRoom({ room_alias_name: name });
      assert.equal((await user.get("GET", path)).room_id, roomId);
      assert.equal((await user.get("GET", at(roomId, "/state/m.room.canonical_alias"))).alias, alias);
    },
  },
  {
    name: "an invitation comes with stripped state: the room's, the inviter's and one's own member event",
    run: async (world) => {
      const [owner, guest] = [await world.user("owner"), await world.user("guest")];
      const { next_batch: since } = await guest.sync();
      const roomId = await owner.createRoom({ name: "n", invite: [guest.userId], initial_state: [encryption] });
      const { found } = await guest.syncUntil(since, (body) => body.rooms?.invite?.[roomId]?.invite_state.events);
      const types = found.map(({ type }: Body) => type);
      for (const type of ["create", "join_rules", "encryption", "name"]) {
        assert.ok(types.includes(`m.room.${type}`), type);
      }
      const member = (userId: string) =>
        found.filter(({ type, state_key }: Body) => type === "m.room.member" && state_key === userId);
      assert.deepEqual(member(owner.userId).map(({ content }: Body) => content.membership), ["join"]);
      const own = member(guest.userId);
      assert.deepEqual(own.map(({ sender, content }: Body) => [sender, content.membership]), [[
        owner.userId,
        "invite",
      ]]);
      for (const event of found) assert.ok(event.sender && typeof event.content === "object", JSON.stringify(event));
    },
  },
  {
    name: "an invitation waits in the first sync too, and is not told again later",
    run: async (world) => {
      const [owner, guest] = [await world.user("owner"), await world.user("guest")];
      const roomId = await owner.createRoom({ invite: [guest.userId] });
      const first = await guest.sync();
      assert.ok(roomId in first.rooms.invite);
      assert.equal((await guest.sync({ since: first.next_batch })).rooms, undefined);
    },
  },
  {
    name: "joining brings the whole state, a limited timeline with what came before, and changed device lists",
    run: async (world) => {
      const [owner, guest] = [await world.user("owner"), await world.user("guest")];
      const roomId = await owner.createRoom({ initial_state: [encryption] });
      for (let count = 0; count < 12; count++) await owner.say(roomId, `early ${count}`);
      await owner.get("POST", at(roomId, "/invite"), { user_id: guest.userId });
      const { next_batch: since } = await guest.sync();
      assert.equal((await guest.get("POST", at(roomId, "/join"), {})).room_id, roomId);
      const changed: string[] = [];
      const { found: room, next } = await guest.syncUntil(since, (body) => {
        changed.push(...body.device_lists?.changed ?? []);
        return body.rooms?.join?.[roomId];
      });
      assert.equal(room.timeline.limited, true);
      assert.deepEqual(textsIn(room.timeline.events).at(-1), "early 11");
      const state = [...room.state.events, ...room.timeline.events].filter(({ state_key }) => state_key !== undefined);
      for (const type of ["m.room.create", "m.room.encryption", "m.room.power_levels", "m.room.join_rules"]) {
        assert.ok(state.some((event) => event.type === type), type);
      }
      const joined = state.filter((event) => event.type === "m.room.member" && event.content.membership === "join");
      assert.deepEqual(joined.map(({ state_key }) => state_key).sort(), [guest.userId, owner.userId].sort());
      if (!changed.includes(owner.userId)) {
        await guest.syncUntil(next, (body) => body.device_lists?.changed?.includes(owner.userId) || undefined);
      }
      assert.equal((await guest.sync({ since: next })).rooms?.join, undefined);
    },
  },
  {
    name:
      "joining uninvited, or acting in a room that one is not in, is 403 M_FORBIDDEN; joining an unknown room is 400 or 404",
    run: async (world) => {
      const [owner, stranger] = [await world.user("owner"), await world.user("stranger")];
      const roomId = await owner.createRoom();
      await stranger.refused(403, "M_FORBIDDEN", "POST", at(roomId, "/join"), {});
      assert.ok([400, 404].includes((await stranger.ask("POST", "/rooms/!made-up/join", {})).status));
      await stranger.refused(403, "M_FORBIDDEN", "PUT", at(roomId, "/send/m.room.message/1"), { body: "x" });
      await stranger.refused(403, "M_FORBIDDEN", "GET", at(roomId, "/members"));
      await stranger.refused(403, "M_FORBIDDEN", "GET", at(roomId, "/joined_members"));
      await owner.say(roomId, "not for strangers");
      const { body } = await stranger.ask("GET", at(roomId, "/messages?dir=b"));
      assert.deepEqual(textsIn(body.chunk ?? []), []);
      await stranger.refused(403, "M_FORBIDDEN", "POST", at(roomId, "/invite"), { user_id: stranger.userId });
    },
  },
  {
    name: "a member without power cannot kick, invite themselves twice or change the encryption",
    run: async (world) => {
      const { owner, guest, roomId } = await world.together();
      const isKept = async ({ userId }: Client) =>
        assert.ok((await guest.ask("POST", at(roomId, "/kick"), { user_id: userId })).status >= 400);
      await isKept(owner);
      await guest.refused(403, "M_FORBIDDEN", "PUT", at(roomId, "/state/m.room.encryption/"), encryption.content);
      await guest.refused(403, "M_FORBIDDEN", "POST", at(roomId, "/invite"), { user_id: owner.userId });
      await owner.get("PUT", at(roomId, "/state/m.room.encryption/"), encryption.content);
      const levels = await owner.get("GET", at(roomId, "/state/m.room.power_levels/"));
      const raise = (level: number) =>
        owner.get("PUT", at(roomId, "/state/m.room.power_levels/"), {
          ...levels,
          users: { ...levels.users, [guest.userId]: level },
        });
      await raise(10);
      const third = await world.user("third");
      await guest.get("POST", at(roomId, "/invite"), { user_id: third.userId });
      await isKept(third);
      await raise(50);
      await isKept(owner);
      await guest.get("POST", at(roomId, "/kick"), { user_id: third.userId });
    },
  },
  {
    name: "a declined invitation and a kick come in the leave section, and nothing after them",
    run: async (world) => {
      const { owner, guest, roomId } = await world.together();
      const declined = await owner.createRoom({ invite: [guest.userId] });
      const { next_batch: since } = await guest.sync();
      await guest.get("POST", at(declined, "/leave"), {});
      await owner.get("POST", at(roomId, "/kick"), { user_id: guest.userId, reason: "because" });
      await owner.say(roomId, "now we are alone");
      const { rooms, next_batch } = await guest.sync({ since });
      assert.deepEqual(Object.keys(rooms.leave).sort(), [declined, roomId].sort());
      for (const [id, sender] of [[declined, guest.userId], [roomId, owner.userId]] as const) {
        const event = rooms.leave[id].timeline.events.at(-1);
        assert.deepEqual([event.type, event.state_key, event.sender, event.content.membership], [
          "m.room.member",
          guest.userId,
          sender,
          "leave",
        ]);
      }
      assert.equal(rooms.leave[roomId].timeline.events.at(-1).content.reason, "because");
      assert.equal((await guest.sync({ since: next_batch })).rooms, undefined);
      assert.equal((await guest.sync()).rooms?.leave, undefined);
    },
  },
  {
    name: "leaving a room again is no error",
    synapseOnly: "a refused leave is logged, and nothing more",
    run: async (world) => {
      const { guest, roomId } = await world.together();
      await guest.get("POST", at(roomId, "/leave"), {});
      await guest.get("POST", at(roomId, "/leave"), {});
    },
  },
  {
    name: "others see who is invited, joins, and leaves; leaving others' rooms is refused",
    run: async (world) => {
      const [owner, guest] = [await world.user("owner"), await world.user("guest")];
      const roomId = await owner.createRoom();
      const { next_batch: since } = await owner.sync();
      await owner.get("POST", at(roomId, "/invite"), { user_id: guest.userId });
      await guest.get("POST", `/join/${encodeURIComponent(roomId)}`, {});
      await guest.get("POST", at(roomId, "/leave"), {});
      const seen: string[] = [];
      await owner.syncUntil(since, ({ rooms }) => {
        const events: Body[] = rooms?.join?.[roomId]?.timeline.events ?? [];
        seen.push(...events.map(({ content }) => content.membership));
        return seen.includes("leave") || undefined;
      });
      assert.deepEqual(seen, ["invite", "join", "leave"]);
      const stranger = await world.user("stranger");
      assert.ok((await stranger.ask("POST", at(roomId, "/leave"), {})).status >= 400);
    },
  },
  {
    name: "members lists every membership, or those asked for; joined_members and joined_rooms only the joined",
    run: async (world) => {
      const { owner, guest, roomId } = await world.together();
      const invited = await world.user("invited");
      await owner.get("POST", at(roomId, "/invite"), { user_id: invited.userId });
      const ids = ({ chunk }: Body) => chunk.map(({ state_key }: Body) => state_key).sort();
      const all = [owner.userId, guest.userId, invited.userId].sort();
      await eventually(async () => assert.deepEqual(ids(await guest.get("GET", at(roomId, "/members"))), all));
      const joined = [owner.userId, guest.userId].sort();
      assert.deepEqual(ids(await guest.get("GET", at(roomId, "/members?membership=join"))), joined);
      assert.deepEqual(ids(await guest.get("GET", at(roomId, "/members?not_membership=join"))), [invited.userId]);
      assert.deepEqual(Object.keys((await guest.get("GET", at(roomId, "/joined_members"))).joined).sort(), joined);
      assert.deepEqual((await guest.get("GET", "/joined_rooms")).joined_rooms, [roomId]);
    },
  },
  {
    name: "a transaction id is remembered over a new login with the same device id",
    synapseOnly: "after a new login, what may have been sent is looked for in the room",
    run: async (world) => {
      const { owner, roomId } = await world.together();
      const first = await owner.say(roomId, "first", "txn");
      const again = await world.login(owner.userId, { device_id: owner.deviceId });
      assert.equal(await again.say(roomId, "after a new login", "txn"), first);
    },
  },
  {
    name: "a transaction id is used once for each login: the same event id, the first content, one event",
    run: async (world) => {
      const { owner, guest, roomId } = await world.together();
      const { next_batch: since } = await guest.sync();
      const first = await owner.say(roomId, "first", "txn");
      assert.equal(await owner.say(roomId, "second", "txn"), first);
      const elsewhere = await world.login(owner.userId);
      assert.notEqual(await elsewhere.say(roomId, "another device", "txn"), first);
      const { rooms } = await guest.sync({ since });
      assert.deepEqual(textsIn(rooms.join[roomId].timeline.events), ["first", "another device"]);
    },
  },
  {
    name: "only the sending device sees the transaction id",
    run: async (world) => {
      const { owner, guest, roomId } = await world.together();
      const elsewhere = await world.login(owner.userId);
      const clients = [owner, guest, elsewhere];
      const tokens = await Promise.all(clients.map(async (client) => (await client.sync()).next_batch));
      await owner.say(roomId, "x", "mine");
      for (const [index, client] of clients.entries()) {
        const { rooms } = await client.sync({ since: tokens[index] });
        const { unsigned } = rooms.join[roomId].timeline.events[0];
        assert.equal(unsigned?.transaction_id, client === owner ? "mine" : undefined);
      }
    },
  },
  {
    name: "a limited timeline's gap is filled from /messages backwards, complete and in order",
    run: async (world) => {
      const { owner, guest, roomId } = await world.together();
      const filter = { room: { timeline: { limit: 5 } } };
      const { next_batch: since } = await guest.sync({ filter });
      const said = Array.from({ length: 23 }, (_, index) => `message ${index}`);
      for (const text of said) await owner.say(roomId, text);
      const { timeline } = (await guest.sync({ since, filter })).rooms.join[roomId];
      assert.equal(timeline.limited, true);
      assert.deepEqual(textsIn(timeline.events), said.slice(-5));
      for (const limit of ["7", "100"]) {
        const gap = await history(guest, roomId, { dir: "b", from: timeline.prev_batch, to: since, limit });
        assert.deepEqual(textsIn(gap.reverse()), said.slice(0, -5));
        assert.ok(gap.every(({ event_id, sender }) => event_id && sender));
      }
    },
  },
  {
    name: "/messages goes forwards from a sync token",
    synapseOnly: "history is read backwards only",
    run: async (world) => {
      const { owner, guest, roomId } = await world.together();
      const { next_batch: since } = await guest.sync();
      for (const text of ["a", "b", "c"]) await owner.say(roomId, text);
      assert.deepEqual(textsIn(await history(guest, roomId, { dir: "f", from: since, limit: "2" })), ["a", "b", "c"]);
    },
  },
  {
    name: "/messages goes back from a sync token to the room's making",
    run: async (world) => {
      const { owner, guest, roomId } = await world.together();
      for (const text of ["a", "b", "c"]) await owner.say(roomId, text);
      const { next_batch: now } = await guest.sync();
      const all = await history(guest, roomId, { dir: "b", from: now, limit: "4" });
      assert.equal(all.at(-1).type, "m.room.create");
      const page = await guest.get("GET", at(roomId, "/messages?dir=b&limit=1"));
      assert.deepEqual(textsIn(page.chunk), ["c"]);
    },
  },
  {
    name: "state changed in a gap is told beside the limited timeline",
    run: async (world) => {
      const { owner, guest, roomId } = await world.together();
      const filter = { room: { timeline: { limit: 2 } } };
      const { next_batch: since } = await guest.sync({ filter });
      await owner.get("PUT", at(roomId, "/state/m.room.encryption/"), encryption.content);
      for (const text of ["a", "b", "c"]) await owner.say(roomId, text);
      const { timeline, state } = (await guest.sync({ since, filter })).rooms.join[roomId];
      assert.deepEqual(textsIn(timeline.events), ["b", "c"]);
      assert.ok(state.events.some(({ type }: Body) => type === "m.room.encryption"));
    },
  },
  {
    name: "who was kicked still reads members and messages as they were, and is refused the rest",
    run: async (world) => {
      const { owner, guest, roomId } = await world.together();
      await owner.say(roomId, "before");
      await owner.get("POST", at(roomId, "/kick"), { user_id: guest.userId });
      await owner.say(roomId, "after");
      await owner.get("POST", at(roomId, "/invite"), { user_id: (await world.user("late")).userId });
      const { chunk } = await guest.get("GET", at(roomId, "/members"));
      const members = chunk.map(({ state_key, content }: Body) => [state_key, content.membership]).sort();
      assert.deepEqual(members, [[guest.userId, "leave"], [owner.userId, "join"]]);
      const page = await guest.get("GET", at(roomId, "/messages?dir=b&limit=50"));
      assert.deepEqual(textsIn(page.chunk), ["before"]);
      await guest.refused(403, "M_FORBIDDEN", "GET", at(roomId, "/joined_members"));
      await guest.refused(403, "M_FORBIDDEN", "PUT", at(roomId, "/send/m.room.message/1"), {
        msgtype: "m.text",
        body: "",
      });
    },
  },
];
