/**
 * What is relied on of published keys: device lists, one-time and fallback keys, cross-signing.
 *
 * @module
 */
import assert from "node:assert/strict";
import { type Body, type Client, type ContractCase, password, withPassword } from "./homeserver_client.ts";

/** JSON as signatures are made over it (Matrix spec v1.16, appendices, 3.1). */
function canonical(value: Body): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  return `{${Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`).join()}}`;
}

/** A signing key. */
class SigningKey {
  readonly #pair: CryptoKeyPair;
  /** Public key, unpadded base64. */
  readonly id: string;

  private constructor(pair: CryptoKeyPair, id: string) {
    this.#pair = pair;
    this.id = id;
  }

  /** A new key. */
  static async make(): Promise<SigningKey> {
    const pair = await crypto.subtle.generateKey("Ed25519", true, ["sign", "verify"]) as CryptoKeyPair;
    const bytes = new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey));
    return new SigningKey(pair, bytes.toBase64({ omitPadding: true }));
  }

  /** The object with a signature more. */
  async sign(userId: string, object: Body, keyName = this.id): Promise<Body> {
    const { signatures = {}, unsigned: _unsigned, ...bare } = object;
    const bytes = new TextEncoder().encode(canonical(bare));
    const signature = new Uint8Array(await crypto.subtle.sign("Ed25519", this.#pair.privateKey, bytes));
    const added = { ...signatures[userId], [`ed25519:${keyName}`]: signature.toBase64({ omitPadding: true }) };
    return { ...bare, signatures: { ...signatures, [userId]: added } };
  }
}

/** Publishes device keys of a client, signed by the device. */
async function publish(client: Client): Promise<{ key: SigningKey; keys: Body }> {
  const key = await SigningKey.make();
  const { userId, deviceId } = client;
  const keys = await key.sign(userId, {
    user_id: userId,
    device_id: deviceId,
    algorithms: ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
    keys: { [`ed25519:${deviceId}`]: key.id, [`curve25519:${deviceId}`]: (await SigningKey.make()).id },
  }, deviceId);
  await client.get("POST", "/keys/upload", { device_keys: keys });
  return { key, keys };
}

/** A cross-signing identity, as it is uploaded. */
async function identity(userId: string): Promise<{ body: Body; master: SigningKey; selfSigning: SigningKey }> {
  const [master, selfSigning, userSigning] = [
    await SigningKey.make(),
    await SigningKey.make(),
    await SigningKey.make(),
  ];
  const form = (usage: string, { id }: SigningKey) => ({
    user_id: userId,
    usage: [usage],
    keys: { [`ed25519:${id}`]: id },
  });
  const body = {
    master_key: form("master", master),
    self_signing_key: await master.sign(userId, form("self_signing", selfSigning)),
    user_signing_key: await master.sign(userId, form("user_signing", userSigning)),
  };
  return { body, master, selfSigning };
}

const oneTimeKey = (name: string) => ({ key: `${name}${"A".repeat(43 - name.length)}`, signatures: {} });

async function query(client: Client, ...userIds: string[]): Promise<Body> {
  const wanted = Object.fromEntries(userIds.map((userId) => [userId, []]));
  return await client.get("POST", "/keys/query", { device_keys: wanted });
}

async function claim(client: Client, { userId, deviceId }: Client): Promise<Body> {
  const wanted = { [userId]: { [deviceId]: "signed_curve25519" } };
  const { one_time_keys } = await client.get("POST", "/keys/claim", { one_time_keys: wanted });
  return one_time_keys[userId]?.[deviceId];
}

/** The cases. */
export const keyCases: readonly ContractCase[] = [
  {
    name: "device keys are found by /keys/query, with the device's name; of unknown users there is nothing",
    run: async (world) => {
      const owner = await world.user();
      const named = await world.login(owner.userId, { initial_device_display_name: "Phone" });
      const asking = await world.user();
      const [{ keys }, { keys: namedKeys }] = [await publish(owner), await publish(named)];
      const { device_keys, failures } = await query(asking, owner.userId);
      assert.deepEqual(Object.keys(device_keys[owner.userId]).sort(), [owner.deviceId, named.deviceId].sort());
      const { unsigned: _unsigned, ...found } = device_keys[owner.userId][owner.deviceId];
      assert.deepEqual(found, keys);
      assert.deepEqual(device_keys[owner.userId][named.deviceId].keys, namedKeys.keys);
      assert.equal(device_keys[owner.userId][named.deviceId].unsigned.device_display_name, "Phone");
      assert.deepEqual(failures, {});
      const one = { device_keys: { [owner.userId]: [named.deviceId] } };
      const only = await asking.get("POST", "/keys/query", one);
      assert.deepEqual(Object.keys(only.device_keys[owner.userId]), [named.deviceId]);
      const nobody = `@nobody-here:${world.server.serverName}`;
      assert.deepEqual((await query(asking, nobody)).device_keys[nobody] ?? {}, {});
    },
  },
  {
    name: "device_lists.changed names who publishes, changes or deletes device keys, oneself included",
    run: async (world) => {
      const { owner, guest } = await world.together();
      let { next_batch: since } = await owner.sync();
      const sees = async (client: Client) => {
        const { next } = await owner.syncUntil(
          since,
          (body) => body.device_lists?.changed?.includes(client.userId) || undefined,
        );
        since = next;
      };
      const { keys } = await publish(guest);
      await sees(guest);
      await guest.get("POST", "/keys/upload", { device_keys: keys });
      assert.equal((await owner.sync({ since, timeout: 300 })).device_lists?.changed, undefined);
      await publish(owner);
      await sees(owner);
      await guest.get("POST", "/logout", {});
      await sees(guest);
      assert.deepEqual((await query(owner, guest.userId)).device_keys[guest.userId], {});
    },
  },
  {
    name: "device_lists.changed names who joins, device_lists.left who shares no room any more; strangers neither",
    run: async (world) => {
      const { owner, guest, roomId } = await world.together();
      const stranger = await world.user();
      await publish(stranger);
      const third = await world.user();
      const { next_batch: since } = await owner.sync();
      await publish(stranger);
      await owner.get("POST", `/rooms/${encodeURIComponent(roomId)}/invite`, { user_id: third.userId });
      await third.get("POST", `/rooms/${encodeURIComponent(roomId)}/join`, {});
      const { found, next } = await owner.syncUntil(since, (body) => body.device_lists?.changed);
      assert.deepEqual(found, [third.userId]);
      await guest.get("POST", `/rooms/${encodeURIComponent(roomId)}/leave`, {});
      const { found: left } = await owner.syncUntil(next, (body) => body.device_lists?.left);
      assert.deepEqual(left, [guest.userId]);
    },
  },
  {
    name: "one-time keys are counted, and the id of one is not used for another",
    run: async (world) => {
      const user = await world.user();
      const keys = { "signed_curve25519:AAAAAQ": oneTimeKey("a"), "signed_curve25519:AAAAAg": oneTimeKey("b") };
      const answer = await user.get("POST", "/keys/upload", { one_time_keys: keys });
      assert.deepEqual(answer.one_time_key_counts, { signed_curve25519: 2 });
      assert.deepEqual((await user.get("POST", "/keys/upload", {})).one_time_key_counts, { signed_curve25519: 2 });
      await user.get("POST", "/keys/upload", { one_time_keys: keys });
      const other = { "signed_curve25519:AAAAAQ": oneTimeKey("other") };
      assert.equal((await user.ask("POST", "/keys/upload", { one_time_keys: other })).status, 400);
      const counts = (await user.sync()).device_one_time_keys_count;
      if (counts !== undefined) assert.deepEqual(counts, { signed_curve25519: 2 });
    },
  },
  {
    name: "claiming gives each one-time key once",
    run: async (world) => {
      const [owner, asking] = [await world.user(), await world.user()];
      await publish(owner);
      const keys = { "signed_curve25519:AAAAAQ": oneTimeKey("a"), "signed_curve25519:AAAAAg": oneTimeKey("b") };
      await owner.get("POST", "/keys/upload", { one_time_keys: keys });
      assert.deepEqual({ ...await claim(asking, owner), ...await claim(asking, owner) }, keys);
      assert.deepEqual(Object.keys(await claim(asking, owner) ?? {}), []);
      assert.deepEqual(Object.keys(await claim(owner, asking) ?? {}), []);
    },
  },
  {
    name: "when one-time keys are used up, the fallback key is given again and again; sync tells both",
    synapseOnly: "without a fallback key, whoever finds no one-time key tries again",
    run: async (world) => {
      const [owner, asking] = [await world.user(), await world.user()];
      await publish(owner);
      const fallback = { "signed_curve25519:AAAAAw": { ...oneTimeKey("f"), fallback: true } };
      const keys = { "signed_curve25519:AAAAAQ": oneTimeKey("a"), "signed_curve25519:AAAAAg": oneTimeKey("b") };
      await owner.get("POST", "/keys/upload", { one_time_keys: keys, fallback_keys: fallback });
      const before = await owner.sync();
      assert.deepEqual(before.device_unused_fallback_key_types, ["signed_curve25519"]);
      const claimed = { ...await claim(asking, owner), ...await claim(asking, owner) };
      assert.deepEqual(claimed, keys);
      const between = await owner.sync({ since: before.next_batch });
      assert.deepEqual(between.device_one_time_keys_count, { signed_curve25519: 0 });
      assert.deepEqual(between.device_unused_fallback_key_types, ["signed_curve25519"]);
      assert.deepEqual(await claim(asking, owner), fallback);
      assert.deepEqual(await claim(asking, owner), fallback);
      assert.deepEqual((await owner.sync({ since: before.next_batch })).device_unused_fallback_key_types, []);
      assert.equal(await claim(owner, asking), undefined);
    },
  },
  {
    name: "an identity is uploaded without the password at first, again if it is the same, and replaced only with it",
    synapseOnly: "where the password is asked for the first time, too, it is given",
    run: async (world) => {
      const { owner, guest } = await world.together();
      const path = "/keys/device_signing/upload";
      const first = await identity(owner.userId);
      const { next_batch: since } = await guest.sync();
      await owner.get("POST", path, first.body);
      await guest.syncUntil(since, (body) => body.device_lists?.changed?.includes(owner.userId) || undefined);
      await owner.get("POST", path, first.body);

      const second = await identity(owner.userId);
      const challenge = await owner.ask("POST", path, second.body);
      assert.equal(challenge.status, 401);
      assert.ok(challenge.body.flows.some(({ stages }: Body) => stages.join() === "m.login.password"));
      const identifier = { type: "m.id.user", user: owner.userId };
      const auth = { type: "m.login.password", session: challenge.body.session, identifier, password: "wrong" };
      const wrong = await owner.ask("POST", path, { ...second.body, auth });
      assert.deepEqual([wrong.status, wrong.body.errcode], [401, "M_FORBIDDEN"]);
      const seen = async () => (await query(guest, owner.userId)).master_keys[owner.userId].keys;
      assert.deepEqual(await seen(), first.body.master_key.keys);
      await owner.get("POST", path, { ...second.body, auth: { ...auth, password } });
      assert.deepEqual(await seen(), second.body.master_key.keys);
    },
  },
  {
    name: "only oneself sees the user-signing key",
    synapseOnly: "nobody asks for others' user-signing keys",
    run: async (world) => {
      const [owner, asking] = [await world.user(), await world.user()];
      const { body } = await identity(owner.userId);
      await withPassword(owner, "POST", "/keys/device_signing/upload", body);
      assert.equal((await query(asking, owner.userId)).user_signing_keys?.[owner.userId], undefined);
    },
  },
  {
    name: "others see the master and self-signing keys, oneself the user-signing key, too",
    run: async (world) => {
      const [owner, asking] = [await world.user(), await world.user()];
      const { body } = await identity(owner.userId);
      await withPassword(owner, "POST", "/keys/device_signing/upload", body);
      const [mine, theirs] = [await query(owner, owner.userId), await query(asking, owner.userId)];
      for (const answer of [mine, theirs]) {
        assert.deepEqual(answer.master_keys[owner.userId].keys, body.master_key.keys);
        assert.deepEqual(answer.self_signing_keys[owner.userId], body.self_signing_key);
      }
      assert.deepEqual(mine.user_signing_keys[owner.userId], body.user_signing_key);
    },
  },
  {
    name: "signatures that are wrong are told as failures",
    synapseOnly: "after signing, the device is asked for again",
    run: async (world) => {
      const { owner } = await world.together();
      const { keys } = await publish(owner);
      const { body, selfSigning } = await identity(owner.userId);
      await withPassword(owner, "POST", "/keys/device_signing/upload", body);
      const unknown = {
        [owner.userId]: { UNKNOWN: await selfSigning.sign(owner.userId, { ...keys, device_id: "UNKNOWN" }) },
      };
      const { failures } = await owner.get("POST", "/keys/signatures/upload", unknown);
      assert.ok(failures[owner.userId].UNKNOWN.errcode);
      const forged = await (await SigningKey.make()).sign(owner.userId, keys, selfSigning.id);
      const bad = await owner.get("POST", "/keys/signatures/upload", { [owner.userId]: { [owner.deviceId]: forged } });
      assert.ok(bad.failures[owner.userId][owner.deviceId].errcode);
    },
  },
  {
    name: "signatures uploaded for one's device and master key are merged into them",
    run: async (world) => {
      const { owner, guest } = await world.together();
      const { key, keys } = await publish(owner);
      const { body, master, selfSigning } = await identity(owner.userId);
      await withPassword(owner, "POST", "/keys/device_signing/upload", body);
      const { next_batch: since } = await guest.sync();
      const signedDevice = await selfSigning.sign(owner.userId, keys);
      const signedMaster = await key.sign(owner.userId, body.master_key, owner.deviceId);
      const upload = { [owner.userId]: { [owner.deviceId]: signedDevice, [master.id]: signedMaster } };
      assert.deepEqual((await owner.get("POST", "/keys/signatures/upload", upload)).failures ?? {}, {});
      await guest.syncUntil(since, (news) => news.device_lists?.changed?.includes(owner.userId) || undefined);
      const { device_keys } = await query(guest, owner.userId);
      assert.deepEqual(device_keys[owner.userId][owner.deviceId].signatures, signedDevice.signatures);
      const { master_keys } = await query(owner, owner.userId);
      assert.deepEqual(master_keys[owner.userId].signatures, signedMaster.signatures);
    },
  },
  {
    name: "a deleted device is gone from /keys/query, and its keys with it when its id comes back",
    run: async (world) => {
      const first = await world.user();
      await publish(first);
      const second = await world.login(first.userId);
      await first.get("POST", "/logout", {});
      const again = await world.login(first.userId, { device_id: first.deviceId });
      assert.deepEqual((await query(second, first.userId)).device_keys[first.userId], {});
      const { keys } = await publish(again);
      const found = (await query(second, first.userId)).device_keys[first.userId][first.deviceId];
      assert.deepEqual(found.keys, keys.keys);
    },
  },
];
