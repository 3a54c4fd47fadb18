import assert from "node:assert/strict";
import {
  DecryptionSettings,
  DeviceId,
  DeviceLists,
  EncryptionSettings,
  initAsync,
  KeysClaimRequest,
  KeysQueryRequest,
  KeysUploadRequest,
  OlmMachine,
  RequestType,
  RoomId,
  StoreHandle,
  TrustRequirement,
  UserId,
} from "@matrix-org/matrix-sdk-crypto-wasm";
import type { Store } from "../../lib/store/mod.ts";
import { StoreFolder } from "./folder.ts";

const ROOM = "!room:x";
const [ANN, BOB] = ["@ann:x", "@bob:x"];

await initAsync();

/** Opens the Rust crypto over a store. It holds its database open: close it before the store. */
async function machineOf(store: Store): Promise<OlmMachine> {
  await store.openCrypto();
  const handle = await StoreHandle.openWithKey("crypto", store.cryptoKey);
  return await OlmMachine.initFromStore(new UserId(ANN), new DeviceId("ANNDEV"), handle);
}

/** Answers the machine's requests in the place of a homeserver, which knows Ann's keys once she has uploaded them. */
async function serve(machine: OlmMachine, keys: Record<string, Record<string, unknown>>): Promise<void> {
  for (const request of await machine.outgoingRequests()) {
    if (request instanceof KeysUploadRequest) {
      if (machine.userId.toString() === ANN) Object.assign(keys, JSON.parse(request.body));
      const response = { one_time_key_counts: { signed_curve25519: 50 } };
      await machine.markRequestAsSent(request.id, RequestType.KeysUpload, JSON.stringify(response));
    } else if (request instanceof KeysQueryRequest) {
      const response = { device_keys: { [ANN]: { ANNDEV: keys.device_keys } } };
      await machine.markRequestAsSent(request.id, RequestType.KeysQuery, JSON.stringify(response));
    }
  }
}

/** Bodies of the uploads that a machine still asks for. */
async function uploads(machine: OlmMachine): Promise<string[]> {
  const requests = await machine.outgoingRequests();
  return requests.filter((request) => request instanceof KeysUploadRequest).map(({ body }) => body);
}

/** Bob's message to the room; his to-device events go to Ann first. */
async function say(bob: OlmMachine, ann: OlmMachine, body: string): Promise<string> {
  for (const request of await bob.shareRoomKey(new RoomId(ROOM), [new UserId(ANN)], new EncryptionSettings())) {
    const content = JSON.parse(request.body).messages[ANN].ANNDEV;
    const event = { type: request.event_type, sender: BOB, content };
    const curve = "signed_curve25519";
    await ann.receiveSyncChanges(
      JSON.stringify([event]),
      new DeviceLists([], []),
      new Map([[curve, 50]]),
      new Set([curve]),
    );
    await bob.markRequestAsSent(request.id, RequestType.ToDevice, "{}");
  }
  const content = JSON.parse(await bob.encryptRoomEvent(new RoomId(ROOM), "m.room.message", JSON.stringify({ body })));
  return JSON.stringify({ type: "m.room.encrypted", event_id: "$1", sender: BOB, origin_server_ts: 0, content });
}

async function read(ann: OlmMachine, event: string): Promise<string> {
  const settings = new DecryptionSettings(TrustRequirement.Untrusted);
  return JSON.parse((await ann.decryptRoomEvent(event, new RoomId(ROOM), settings)).event).content.body;
}

Deno.test("the Rust crypto resumes after a restart: same keys, same Olm and Megolm sessions", async () => {
  await using folder = new StoreFolder();
  const bob = await OlmMachine.initialize(new UserId(BOB), new DeviceId("BOBDEV"));
  const keys: Record<string, Record<string, unknown>> = {};

  const first = await machineOf(await folder.reopen());
  const identity = first.identityKeys.curve25519.toBase64();
  await serve(first, keys);
  await bob.updateTrackedUsers([new UserId(ANN)]);
  await serve(bob, keys);
  const claim = await bob.getMissingSessions([new UserId(ANN)]);
  assert.ok(claim instanceof KeysClaimRequest);
  const oneTimeKey = Object.fromEntries(Object.entries(keys.one_time_keys ?? {}).slice(0, 1));
  const claimed = { one_time_keys: { [ANN]: { ANNDEV: oneTimeKey } } };
  await bob.markRequestAsSent(claim.id, RequestType.KeysClaim, JSON.stringify(claimed));
  const one = await say(bob, first, "one");
  assert.equal(await read(first, one), "one");
  const two = await say(bob, first, "two");
  const pending = await uploads(first);
  first.close();

  const second = await machineOf(await folder.reopen());
  assert.equal(second.identityKeys.curve25519.toBase64(), identity);
  assert.deepEqual(await uploads(second), pending, "the same keys wait to be uploaded, and none twice");
  assert.equal(await read(second, two), "two", "the Megolm session has lasted");
  assert.equal(await bob.invalidateGroupSession(new RoomId(ROOM)), true);
  assert.equal(await read(second, await say(bob, second, "three")), "three", "the Olm session has lasted");
  second.close();

  const third = await machineOf(await folder.reopen());
  const four = await say(bob, third, "four");
  assert.deepEqual([await read(third, four), await read(third, one)], ["four", "one"]);
  third.close();
  bob.close();
});

Deno.test("the Rust crypto refuses to open with another key", async () => {
  await using folder = new StoreFolder();
  const store = await folder.reopen();
  (await machineOf(store)).close();
  await (await folder.reopen()).openCrypto();
  await assert.rejects(StoreHandle.openWithKey("crypto", new Uint8Array(32).fill(9)));
});
