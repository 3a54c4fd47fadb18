import assert from "node:assert/strict";
import { DeviceId, initAsync, OlmMachine, RequestType, UserId } from "@matrix-org/matrix-sdk-crypto-wasm";
import fc from "fast-check";
import { cryptoAnswer, type OutgoingRequest } from "../../lib/session/crypto_requests.ts";
import { publishedKeys } from "./peer.ts";

const [bob, carol] = ["@bob:localhost", "@carol:elsewhere"];
/** Body of a query or a claim for both. */
const body = JSON.stringify({ device_keys: { [bob]: [], [carol]: [] }, one_time_keys: { [bob]: {}, [carol]: {} } });

async function machines() {
  await initAsync();
  const ours = await OlmMachine.initialize(new UserId("@toggle:localhost"), new DeviceId("OURS"));
  const bobs = await publishedKeys(await OlmMachine.initialize(new UserId(bob), new DeviceId("BOB")));
  return { ours, bobs };
}

/** Answers a query, and then a claim, in which another homeserver has changed the entries of its user or added others. */
async function answer(
  change: { devices?: unknown; users?: object; claimed?: unknown; claimedUsers?: object; master?: unknown },
  read: (request: Pick<OutgoingRequest, "type" | "body">, json: object) => object,
): Promise<{ devices: string[]; sessions: boolean }> {
  const { ours, bobs } = await machines();
  const queried = {
    device_keys: { [bob]: { BOB: bobs.deviceKeys }, [carol]: change.devices ?? {}, ...change.users },
    master_keys: "master" in change ? { [carol]: change.master } : {},
    failures: { "elsewhere": {} },
  };
  const query = ours.queryKeysForUsers([new UserId(bob), new UserId(carol)]);
  await ours.markRequestAsSent(query.id, query.type, JSON.stringify(read({ type: query.type, body }, queried)));
  using devices = await ours.getUserDevices(new UserId(bob));
  const claim = await ours.getMissingSessions([new UserId(bob), new UserId(carol)]);
  assert.ok(claim !== null);
  const claimed = {
    one_time_keys: {
      [bob]: { BOB: Object.fromEntries(bobs.oneTimeKeys.slice(0, 1)) },
      [carol]: change.claimed ?? {},
      ...change.claimedUsers,
    },
  };
  await ours.markRequestAsSent(claim.id, claim.type, JSON.stringify(read({ type: claim.type, body }, claimed)));
  const missing = await ours.getMissingSessions([new UserId(bob)]);
  ours.close();
  return { devices: devices.keys().map((id) => id.toString()), sessions: missing === null };
}

/** Entries that weren't asked for are left out without a word. */
const rows: [name: string, change: Parameters<typeof answer>[0], dropped?: number][] = [
  ["a string in the place of the devices", { devices: "x" }],
  ["a number in the place of the devices", { devices: 5 }],
  ["a list in the place of the devices", { devices: [1] }],
  ["half a character in a device id", { devices: { "\ud800": {} } }],
  ["no user id", { users: { carol: {} } }, 0],
  ["a user id of a bad server", { users: { "@carol:else where": {} } }, 0],
  ["a key id without a colon", { claimed: { CAROL: { abc: { key: "x" } } } }],
  ["a key id that is only a colon", { claimed: { CAROL: { ":": {} } } }],
  ["a string in the place of the claimed devices", { claimed: "x" }],
  ["a string in the place of the claimed keys", { claimed: { CAROL: "x" } }],
  ["half a character in a key id", { claimed: { CAROL: { "signed_curve25519:\ud800": {} } } }],
  ["no user id in a claim", { claimedUsers: { "": {} } }, 0],
];

Deno.test("cryptoAnswer() drops malformed entries of one homeserver, and the crypto accepts the others' keys", async (t) => {
  for (const [name, change, expected = 1] of rows) {
    await t.step(name, async () => {
      // As it is, the crypto refuses all of it.
      await assert.rejects(answer(change, (_, json) => json));
      let dropped: readonly string[] = [];
      const result = await answer(change, (request, json) => {
        const read = cryptoAnswer(request, json as Record<string, unknown>);
        dropped = [...dropped, ...read.dropped];
        return read.json;
      });
      assert.deepEqual(result, { devices: ["BOB"], sessions: true });
      assert.equal(dropped.length, expected);
    });
  }
});

Deno.test("cryptoAnswer() leaves out users that were not asked for", () => {
  const eve = "@eve:elsewhere";
  const of = (...users: string[]) => Object.fromEntries(users.map((user) => [user, { D: {} }]));
  const query = { type: RequestType.KeysQuery, body };
  assert.deepEqual(
    cryptoAnswer(query, {
      device_keys: of(bob, eve),
      master_keys: of(eve, carol),
      self_signing_keys: "x",
      user_signing_keys: of(eve, "constructor"),
      failures: { elsewhere: {} },
    }),
    {
      json: {
        device_keys: of(bob),
        master_keys: of(carol),
        self_signing_keys: {},
        user_signing_keys: {},
        failures: { elsewhere: {} },
      },
      dropped: [],
    },
  );
  const claim = { type: RequestType.KeysClaim, body };
  const claimed = { [bob]: { D: { "signed_curve25519:A": { key: "x" } } } };
  assert.deepEqual(cryptoAnswer(claim, { one_time_keys: { ...claimed, ...of(eve) } }), {
    json: { one_time_keys: claimed, failures: {} },
    dropped: [],
  });
});

Deno.test("cryptoAnswer() turns any answer into one that the crypto accepts", async () => {
  const { ours } = await machines();
  const key = fc.oneof(
    fc.constantFrom("@bob:localhost", "@b", "BOB", "signed_curve25519:A", "abc", ":", "\ud800", "__proto__", "keys"),
    fc.string({ unit: "binary" }),
  );
  const value = fc.letrec((tie) => ({
    any: fc.oneof(
      { maxDepth: 5 },
      fc.constantFrom(null, "x", "\ud800", 5, -1, 1e300, true),
      fc.array(tie("any"), { maxLength: 2 }),
      fc.dictionary(key, tie("any"), { maxKeys: 3 }),
    ),
  })).any;
  const names = ["device_keys", "master_keys", "self_signing_keys", "user_signing_keys", "failures", "one_time_keys"];
  const answers = fc.dictionary(fc.constantFrom(...names, "one_time_key_counts", "event_id"), value);
  const { KeysQuery, KeysClaim, KeysUpload, ToDevice, RoomMessage } = RequestType;
  await fc.assert(
    fc.asyncProperty(answers, async (json) => {
      for (const type of [KeysQuery, KeysClaim, KeysUpload, ToDevice, RoomMessage]) {
        const read = cryptoAnswer({ type, body }, json);
        await ours.markRequestAsSent("id", type, JSON.stringify(read.json));
      }
    }),
    { numRuns: 300 },
  );
  ours.close();
});
