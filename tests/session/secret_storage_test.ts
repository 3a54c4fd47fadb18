import assert from "node:assert/strict";
import { ConfigError, TransientError } from "../../lib/errors.ts";
import { HomeserverClient, SecretStorage } from "../../lib/session/mod.ts";
import { Homeserver } from "../../sandbox/homeserver/mod.ts";

const { signal } = new AbortController();
const [key, next] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)];
const secrets: readonly [name: string, secret: string][] = [
  ["m.cross_signing.master", "master"],
  ["m.cross_signing.self_signing", "self-signing"],
  ["m.megolm_backup.v1", "of another client"],
];

/** An account, logged in. */
async function account(homeserver: Homeserver) {
  const self = homeserver.register("toggle", "secret");
  const client = new HomeserverClient(homeserver.url);
  const body = { type: "m.login.password", identifier: { type: "m.id.user", user: "toggle" }, password: "secret" };
  const { json } = await client.send({ method: "POST", path: "/_matrix/client/v3/login", body }, signal);
  client.accessToken = String(json["access_token"]);
  return { self, client };
}

/** Whether a key opens the account's secret storage; if so, all secrets must be readable. */
async function opens(client: HomeserverClient, self: string, by: Uint8Array<ArrayBuffer>): Promise<boolean> {
  let storage: SecretStorage;
  try {
    storage = await SecretStorage.open(client, self, by, signal);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return false;
  }
  for (const [name, secret] of secrets) assert.equal(await storage.get(name, signal), secret, name);
  return true;
}

Deno.test("SecretStorage.replaceKey() leaves one key that opens everything, wherever it is interrupted", async () => {
  let interrupted = 0;
  for (let writes = 0;; writes += 1) {
    await using homeserver = new Homeserver();
    const { self, client } = await account(homeserver);
    using _client = client;
    const storage = await SecretStorage.open(client, self, key, signal);
    for (const [name, secret] of secrets) await storage.set(name, secret, signal);
    let told = 0;
    const replace = (from: Uint8Array<ArrayBuffer>, to: Uint8Array<ArrayBuffer>) =>
      SecretStorage.replaceKey(client, self, { key: from, next: to, onWrite: () => told += 1 }, signal);
    const fault = homeserver.fault({ method: "PUT", path: /account_data/, skip: writes, answer: { status: 503 } });
    const failed = await replace(key, next).then(() => false, (error) => {
      assert.ok(error instanceof TransientError);
      return true;
    });
    fault[Symbol.dispose]();
    assert.equal(told, 1);
    const [byOld, byNew] = [await opens(client, self, key), await opens(client, self, next)];
    assert.deepEqual([byOld, byNew].filter((each) => each).length, 1, `after ${writes} writes`);
    if (!failed) {
      assert.equal(byNew, true);
      break;
    }
    interrupted += 1;
    // Either can be tried again with.
    await replace(byOld ? key : next, new Uint8Array(32).fill(3));
    assert.equal(await opens(client, self, new Uint8Array(32).fill(3)), true);
  }
  assert.ok(interrupted >= 2 * secrets.length + 2, `${interrupted} interruptions`);
});

Deno.test("SecretStorage.replaceKey() changes nothing without the right key", async () => {
  await using homeserver = new Homeserver();
  const { self, client } = await account(homeserver);
  using _client = client;
  const fail = { key: next, next: key, onWrite: () => assert.fail("nothing is to be written") };
  await assert.rejects(SecretStorage.replaceKey(client, self, fail, signal), /has no secret storage yet/);
  await SecretStorage.open(client, self, key, signal);
  await assert.rejects(SecretStorage.replaceKey(client, self, fail, signal), /doesn't open the secret storage/);
});
