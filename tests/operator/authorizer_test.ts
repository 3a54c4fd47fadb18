import assert from "node:assert/strict";
import { Authorizer } from "../../lib/operator/authorizer.ts";
import type { InboxEvent } from "../../lib/session/mod.ts";
import { alice, config, decrypted, goodSender, phone, room, World } from "./fakes.ts";

Deno.test("Authorizer.authorize() goes by the pin that another message of the sender has set meanwhile", async () => {
  const tablet = { deviceId: "TABLET", ed25519: "key of TABLET", crossSignedByOwner: false };
  const unsigned = { ...goodSender, identity: undefined };
  const payloads = [
    decrypted("start", { sessionId: "one", messageIndex: 0 }, { senderFacts: { ...unsigned, devices: [phone] } }),
    decrypted("stop", { sessionId: "two", messageIndex: 0 }, {
      senderFacts: {
        ...unsigned,
        device: { ...tablet, deleted: false, sameKeysAsSession: true },
        devices: [phone, tablet],
      },
    }),
  ];
  const world = new World();
  const chat = {
    room: (roomId: string) => world.rooms.get(roomId),
    read: ({ seq }: InboxEvent) => Promise.resolve(payloads[seq] ?? assert.fail()),
    published: () => assert.fail("not asked"),
  };
  const pins = { get: (user: string) => world.pins.get(user), set: world.pins.set.bind(world.pins) };
  const authorizer = new Authorizer(chat, pins, world.clock, config);
  const { signal } = new AbortController();
  const message = { roomId: room, sender: alice, json: {}, receivedAtMs: 0, ageMs: 0 };
  const authorizations = await Promise.all(
    payloads.map((_, seq) => authorizer.authorize({ ...message, seq, eventId: `$${seq}` }, signal)),
  );
  assert.deepEqual(
    authorizations.map((each) => each.kind === "readable" && !each.verdict.trusted && each.verdict.reason),
    [false, "new-device"],
  );
  const pin = world.pins.get(alice);
  assert.deepEqual(pin?.kind === "devices" && pin.devices.map(({ deviceId }) => deviceId), ["PHONE"]);
});
