/** What the crypto is bothered with. */

import assert from "node:assert/strict";
import { DeviceId, initAsync, OlmMachine, UserId } from "@matrix-org/matrix-sdk-crypto-wasm";
import { CryptoMachine } from "../../lib/session/crypto_machine.ts";
import { HomeserverClient } from "../../lib/session/homeserver_client.ts";
import { openStore, type Store } from "../../lib/store/mod.ts";
import { publishedKeys } from "./peer.ts";

const never = new AbortController().signal;

/** A device's crypto over a store of its own; it reaches no homeserver unless it is given one. */
async function withMachine(
  use: (machine: CryptoMachine, store: Store) => Promise<void>,
  url = "http://127.0.0.1:9",
): Promise<void> {
  const folder = await Deno.makeTempDir();
  {
    await using store = await openStore({ folder, holder: { host: "test", pid: Deno.pid } });
    await store.openCrypto();
    using client = new HomeserverClient(url);
    using machine = await CryptoMachine.open({
      client,
      store,
      self: "@toggle:localhost",
      deviceId: "TEST",
      allowedUsers: new Set(["@alice:localhost"]),
    });
    await use(machine, store);
  }
  await Deno.remove(folder, { recursive: true });
}

Deno.test("CryptoMachine.receive() passes only news to the crypto", async (t) => {
  await withMachine(async (machine) => {
    const counted = { device_one_time_keys_count: { signed_curve25519: 50 }, device_unused_fallback_key_types: [] };
    const request = { type: "m.room_key_request", sender: "@alice:localhost", content: {} };
    const steps = [
      { name: "the first answer", answer: {}, isNews: true },
      { name: "nothing", answer: { rooms: { join: {} } }, isNews: false },
      { name: "a count", answer: counted, isNews: true },
      { name: "the same count", answer: { ...counted, rooms: {} }, isNews: false },
      { name: "another count", answer: { ...counted, device_one_time_keys_count: {} }, isNews: true },
      { name: "the first count", answer: counted, isNews: true },
      { name: "a to-device message", answer: { ...counted, to_device: { events: [request] } }, isNews: true },
      { name: "a changed device", answer: { ...counted, device_lists: { changed: ["@a:localhost"] } }, isNews: true },
      { name: "somebody who has left", answer: { ...counted, device_lists: { left: ["@a:localhost"] } }, isNews: true },
      { name: "nothing again", answer: { ...counted, device_lists: { changed: [] } }, isNews: false },
    ];
    for (const { name, answer, isNews } of steps) {
      await t.step(name, async () => {
        const { revision } = machine;
        assert.equal(await machine.receive(answer, "token", never), isNews);
        assert.equal(
          machine.revision === revision,
          !isNews,
          "what is known of users is looked up anew after news alone",
        );
      });
    }
  });
});

Deno.test("CryptoMachine.query() keeps no devices of users who were not asked for", async () => {
  const [alice, eve] = ["@alice:localhost", "@eve:evil.example"];
  await initAsync();
  const keysOf = async (user: string) => {
    const phone = await OlmMachine.initialize(new UserId(user), new DeviceId("PHONE"));
    return { PHONE: (await publishedKeys(phone)).deviceKeys };
  };
  const answer = { device_keys: { [alice]: await keysOf(alice), [eve]: await keysOf(eve) } };
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, () => Response.json(answer));
  await withMachine(async (machine) => {
    await machine.query(alice, never);
    for (const [user, devices] of [[alice, 1], [eve, 0]] as const) {
      using known = await machine.olm.getUserDevices(new UserId(user));
      assert.equal(known.keys().length, devices, user);
    }
  }, `http://127.0.0.1:${server.addr.port}`);
});

Deno.test("CryptoMachine.query() keeps nothing about users whose messages aren't read", async () => {
  const devices = { PHONE: { keys: { "ed25519:PHONE": "a", "curve25519:PHONE": "b" } } };
  const answer = { device_keys: { "@alice:localhost": {}, "@eve:evil.example": devices } };
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, () => Response.json(answer));
  await withMachine(async (machine) => {
    await machine.query("@alice:localhost", never);
    assert.ok(machine.listed("@alice:localhost") !== undefined);
    assert.equal(machine.listed("@eve:evil.example"), undefined);
  }, `http://127.0.0.1:${server.addr.port}`);
});

Deno.test("CryptoMachine makes no more one-time keys while many that were claimed are unused", async () => {
  const none = { signed_curve25519: 0 };
  const uploads: Record<string, object>[] = [];
  // As if others claimed every key at once and never wrote a message with one.
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    uploads.push(await request.json());
    return Response.json({ one_time_key_counts: none });
  });
  await withMachine(async (machine, store) => {
    for (let sync = 0; sync < 40; sync += 1) {
      const counts = { device_one_time_keys_count: none, device_unused_fallback_key_types: [] };
      const request = { type: "m.room_key_request", sender: "@alice:localhost", content: {} };
      await machine.receive({ ...counts, to_device: { events: [request] } }, `token ${sync}`, never);
      await machine.sendOutgoing(never);
    }
    const made = uploads.flatMap(({ one_time_keys }) => Object.keys(one_time_keys ?? {}));
    assert.ok(made.length >= 200, `only ${made.length} keys`);
    assert.ok(made.length <= 700, `${made.length} keys`);
    assert.ok(store.olmAccountSize() < 150_000, `${store.olmAccountSize()} bytes`);
    // Without a one-time key, the homeserver hands out the fallback key.
    assert.ok(uploads.some(({ fallback_keys }) => Object.keys(fallback_keys ?? {}).length > 0));
  }, `http://127.0.0.1:${server.addr.port}`);
});
