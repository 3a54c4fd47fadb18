/** New keys for an operator that has been in use: the store's key and the recovery key. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { object } from "../../lib/json.ts";
import { HomeserverClient, type Json } from "../../lib/session/mod.ts";
import { Place } from "./place.ts";

const recovery = "EsTc LW2K PGiF wKEA 3As5 g5c4 BXwk qeeJ ZJV8 Q9fu gUMN UE4d";

/** Runs the operator until it exits. Returns its exit code and output. */
async function once(place: Place, argument: string | undefined, environment: Readonly<Record<string, string>> = {}) {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "main.ts", ...argument === undefined ? [] : [argument]],
    cwd: join(import.meta.dirname ?? ".", "..", ".."),
    env: { ...place.environment, NO_COLOR: "1", ...environment },
  }).output();
  const text = new TextDecoder();
  return { code, printed: text.decode(stdout).trim(), said: text.decode(stderr) };
}

/** Returns the operator's public master key and devices, as the homeserver lists them. */
async function listed({ homeserver, operatorId }: Place) {
  using client = new HomeserverClient(homeserver.url);
  const { signal } = new AbortController();
  const identifier = { type: "m.id.user", user: "anna" };
  const post = async (path: string, body: Json) =>
    (await client.send({ method: "POST", path: `/_matrix/client/v3${path}`, body }, signal)).json;
  client.accessToken = String(
    (await post("/login", { type: "m.login.password", identifier, password: "pw" }))["access_token"],
  );
  const { master_keys, device_keys } = await post("/keys/query", { device_keys: { [operatorId]: [] } });
  await post("/logout", {});
  const [master, devices] = [master_keys, device_keys].map((of) => object(object(of)[operatorId]));
  return { masterKey: master?.["keys"], devices: Object.keys(devices ?? {}) };
}

/** Anna turns the target on or off. */
async function command(place: Place, roomId: string, text: "start" | "stop"): Promise<void> {
  const answered = place.anna.next(({ sender, body }) =>
    sender === place.operatorId && body.includes(text === "start" ? "is on" : "is off")
  );
  await place.anna.say(roomId, text);
  await answered;
  assert.equal(place.replicas, text === "start" ? 1 : 0);
}

Deno.test("--rotate-store-key: another key, another device, the same identity, and all is remembered", async (t) => {
  for (const given of [undefined, new Uint8Array(32).fill(7).toBase64()]) {
    await t.step(given === undefined ? "of a key file" : "of CRYPTO_STORE_KEY", async () => {
      await using place = await Place.open();
      let environment: Record<string, string> = given === undefined ? {} : { CRYPTO_STORE_KEY: given };
      const roomId = await place.invite();
      {
        await using operator = place.start({ environment });
        await operator.ready;
        await place.joined(roomId);
        await command(place, roomId, "start");
        const busy = await once(place, "--rotate-store-key", { HTTP_ADDRESS: "off", ...environment });
        assert.equal(busy.code, 1, "not while the operator runs");
        assert.match(busy.said, /in use|held|holds/);
        await operator.stop();
      }
      const before = await listed(place);
      const token = await once(place, "--rotate-store-key", {
        ...environment,
        AUTH_METHOD: "token",
        MATRIX_ACCESS_TOKEN: "any",
      });
      assert.equal(token.code, 2, "a token can't make another device");
      assert.match(token.said, /AUTH_METHOD: with token, no new device can be made/);
      const { code, printed, said } = await once(place, "--rotate-store-key", environment);
      assert.equal(code, 0, said);
      assert.match(said, /encrypted the store with a new key, and replaced device/);
      if (given === undefined) assert.equal(printed, "");
      else {
        assert.match(printed, /^[A-Za-z0-9+/]{43}=$/);
        const refused = await once(place, undefined, environment);
        assert.equal(refused.code, 1, "the old key no longer opens it");
        environment = { CRYPTO_STORE_KEY: printed };
      }
      await using operator = place.start({ environment });
      await operator.ready;
      await command(place, roomId, "stop");
      const after = await listed(place);
      assert.deepEqual(after.masterKey, before.masterKey);
      assert.equal(after.devices.length, 1);
      assert.notDeepEqual(after.devices, before.devices);
      assert.equal(await operator.stop(), 0);
    });
  }
});

Deno.test("--rotate-recovery-key: only the new key opens the identity from then on", async () => {
  await using place = await Place.open();
  const none = await once(place, "--rotate-recovery-key");
  assert.deepEqual([none.code, none.printed], [2, ""]);
  const early = await once(place, "--rotate-recovery-key", { RECOVERY_KEY: recovery });
  assert.equal(early.code, 2, early.said);
  assert.match(early.said, /has no secret storage yet/);

  const roomId = await place.invite();
  {
    await using operator = place.start({ environment: { RECOVERY_KEY: recovery } });
    await operator.ready;
    await place.joined(roomId);
    // The operator may run at the same time.
    const { code, printed, said } = await once(place, "--rotate-recovery-key", { RECOVERY_KEY: recovery });
    assert.equal(code, 0, said);
    assert.match(printed, /^(?:\w{4} ){11}\w{4}$/);
    assert.notEqual(printed, recovery);
    await command(place, roomId, "start");
    assert.equal(await operator.stop(), 0);

    const { masterKey } = await listed(place);
    await Deno.remove(place.store, { recursive: true });
    const old = await once(place, undefined, { RECOVERY_KEY: recovery });
    assert.equal(old.code, 2, old.said);
    assert.match(old.said, /RECOVERY_KEY: doesn't open the secret storage/);
    await Deno.remove(place.store, { recursive: true });

    await using restored = place.start({ environment: { RECOVERY_KEY: printed } });
    await restored.ready;
    assert.deepEqual((await listed(place)).masterKey, masterKey);
    assert.ok(restored.lines.some((line) => /restored the cross-signing identity/.test(line)));
    assert.equal(await restored.stop(), 0);
  }
  assert.equal((await listed(place)).devices.includes("OPENCLAWTOGGLETEST"), false);
});

Deno.test("a new password leaves the device as it is", async () => {
  await using place = await Place.open();
  const roomId = await place.invite();
  await using first = place.start();
  await first.ready;
  await place.joined(roomId);
  assert.equal(await first.stop(), 0);
  const before = await listed(place);
  // The password isn't needed while the token is valid.
  await using second = place.start({ environment: { MATRIX_PASSWORD: "another" } });
  await second.ready;
  await command(place, roomId, "start");
  assert.deepEqual(await listed(place), before);
  assert.equal(await second.stop(), 0);
});

Deno.test("a backup that was put back: a new device, the same identity, and what was sent before isn't done again", async () => {
  await using place = await Place.open();
  const roomId = await place.invite();
  const copy = `${place.store}.backup`;
  const copied = async (from: string, to: string) => {
    const { success } = await new Deno.Command("cp", { args: ["-R", from, to] }).output();
    assert.ok(success);
  };
  {
    await using operator = place.start();
    await operator.ready;
    await place.joined(roomId);
    assert.equal(await operator.stop(), 0);
  }
  await copied(place.store, copy);
  {
    await using operator = place.start();
    await operator.ready;
    await command(place, roomId, "start");
    assert.equal(await operator.stop(), 0);
  }
  const before = await listed(place);
  await place.scaleByHand(0);
  await Deno.remove(place.store, { recursive: true });
  await copied(copy, place.store);
  await using operator = place.start();
  await operator.ready;
  const line = operator.lines.find((line) => /replaced device/.test(line)) ?? "";
  assert.match(line, /older than what the homeserver knows: it was restored from a backup/);
  const after = await listed(place);
  assert.deepEqual(after.masterKey, before.masterKey);
  assert.notDeepEqual(after.devices, before.devices);
  assert.equal(place.replicas, 0, "the start of before was not done again");
  await command(place, roomId, "start");
  assert.equal(await operator.stop(), 0);
});
