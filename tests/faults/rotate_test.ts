/** New keys for an operator that has been in use: the store's key and the recovery key. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { object } from "../../lib/json.ts";
import { HomeserverClient, type Json } from "../../lib/session/mod.ts";
import { Fixture } from "./fixture.ts";

const recovery = "EsTc LW2K PGiF wKEA 3As5 g5c4 BXwk qeeJ ZJV8 Q9fu gUMN UE4d";

/** Runs the operator until it exits. Returns its exit code and output. */
async function once(
  fixture: Fixture,
  argument: string | undefined,
  environment: Readonly<Record<string, string>> = {},
) {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "main.ts", ...argument === undefined ? [] : [argument]],
    cwd: join(import.meta.dirname ?? ".", "..", ".."),
    env: { ...fixture.environment, NO_COLOR: "1", ...environment },
  }).output();
  const text = new TextDecoder();
  return { code, printed: text.decode(stdout).trim(), said: text.decode(stderr) };
}

/** Returns the operator's public master key and devices, as the homeserver lists them. */
async function listed({ homeserver, operatorId }: Fixture) {
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
async function command(fixture: Fixture, roomId: string, text: "start" | "stop"): Promise<void> {
  const answered = fixture.anna.next(({ sender, body }) =>
    sender === fixture.operatorId && body.includes(text === "start" ? "is on" : "is off")
  );
  await fixture.anna.say(roomId, text);
  await answered;
  assert.equal(fixture.replicas, text === "start" ? 1 : 0);
}

Deno.test("--rotate-store-key: another key, another device, the same identity, and all is remembered", async (t) => {
  for (const given of [undefined, new Uint8Array(32).fill(7).toBase64()]) {
    await t.step(given === undefined ? "of a key file" : "of CRYPTO_STORE_KEY", async () => {
      await using fixture = await Fixture.open();
      let environment: Record<string, string> = given === undefined ? {} : { CRYPTO_STORE_KEY: given };
      const roomId = await fixture.invite();
      {
        await using operator = fixture.start({ environment });
        await operator.ready;
        await fixture.joined(roomId);
        await command(fixture, roomId, "start");
        const busy = await once(fixture, "--rotate-store-key", { HTTP_ADDRESS: "off", ...environment });
        assert.equal(busy.code, 1, "not while the operator runs");
        assert.match(busy.said, /in use|held|holds/);
        await operator.stop();
      }
      const before = await listed(fixture);
      const token = await once(fixture, "--rotate-store-key", {
        ...environment,
        AUTH_METHOD: "token",
        MATRIX_ACCESS_TOKEN: "any",
      });
      assert.equal(token.code, 2, "a token can't make another device");
      assert.match(token.said, /AUTH_METHOD: with token, no new device can be made/);
      const { code, printed, said } = await once(fixture, "--rotate-store-key", environment);
      assert.equal(code, 0, said);
      assert.match(said, /encrypted the store with a new key, and replaced device/);
      if (given === undefined) assert.equal(printed, "");
      else {
        assert.match(printed, /^[A-Za-z0-9+/]{43}=$/);
        const refused = await once(fixture, undefined, environment);
        assert.equal(refused.code, 1, "the old key no longer opens it");
        environment = { CRYPTO_STORE_KEY: printed };
      }
      await using operator = fixture.start({ environment });
      await operator.ready;
      await command(fixture, roomId, "stop");
      const after = await listed(fixture);
      assert.deepEqual(after.masterKey, before.masterKey);
      assert.equal(after.devices.length, 1);
      assert.notDeepEqual(after.devices, before.devices);
      assert.equal(await operator.stop(), 0);
    });
  }
});

Deno.test("--rotate-recovery-key: only the new key opens the identity from then on", async () => {
  await using fixture = await Fixture.open();
  const none = await once(fixture, "--rotate-recovery-key");
  assert.deepEqual([none.code, none.printed], [2, ""]);
  const early = await once(fixture, "--rotate-recovery-key", { RECOVERY_KEY: recovery });
  assert.equal(early.code, 2, early.said);
  assert.match(early.said, /has no secret storage yet/);

  const roomId = await fixture.invite();
  {
    await using operator = fixture.start({ environment: { RECOVERY_KEY: recovery } });
    await operator.ready;
    await fixture.joined(roomId);
    // The operator may run at the same time.
    const { code, printed, said } = await once(fixture, "--rotate-recovery-key", { RECOVERY_KEY: recovery });
    assert.equal(code, 0, said);
    assert.match(printed, /^(?:\w{4} ){11}\w{4}$/);
    assert.notEqual(printed, recovery);
    await command(fixture, roomId, "start");
    assert.equal(await operator.stop(), 0);

    const { masterKey } = await listed(fixture);
    await Deno.remove(fixture.store, { recursive: true });
    const old = await once(fixture, undefined, { RECOVERY_KEY: recovery });
    assert.equal(old.code, 2, old.said);
    assert.match(old.said, /RECOVERY_KEY: doesn't open the secret storage/);
    await Deno.remove(fixture.store, { recursive: true });

    await using restored = fixture.start({ environment: { RECOVERY_KEY: printed } });
    await restored.ready;
    assert.deepEqual((await listed(fixture)).masterKey, masterKey);
    assert.ok(restored.lines.some((line) => /restored the cross-signing identity/.test(line)));
    assert.equal(await restored.stop(), 0);
  }
  assert.equal((await listed(fixture)).devices.includes("OPENCLAWTOGGLETEST"), false);
});

Deno.test("a new password leaves the device as it is", async () => {
  await using fixture = await Fixture.open();
  const roomId = await fixture.invite();
  await using first = fixture.start();
  await first.ready;
  await fixture.joined(roomId);
  assert.equal(await first.stop(), 0);
  const before = await listed(fixture);
  // The password isn't needed while the token is valid.
  await using second = fixture.start({ environment: { MATRIX_PASSWORD: "another" } });
  await second.ready;
  await command(fixture, roomId, "start");
  assert.deepEqual(await listed(fixture), before);
  assert.equal(await second.stop(), 0);
});

Deno.test("a backup that was put back: a new device, the same identity, and what was sent before isn't done again", async () => {
  await using fixture = await Fixture.open();
  const roomId = await fixture.invite();
  const copy = `${fixture.store}.backup`;
  const copied = async (from: string, to: string) => {
    const { success } = await new Deno.Command("cp", { args: ["-R", from, to] }).output();
    assert.ok(success);
  };
  {
    await using operator = fixture.start();
    await operator.ready;
    await fixture.joined(roomId);
    assert.equal(await operator.stop(), 0);
  }
  await copied(fixture.store, copy);
  {
    await using operator = fixture.start();
    await operator.ready;
    await command(fixture, roomId, "start");
    assert.equal(await operator.stop(), 0);
  }
  const before = await listed(fixture);
  await fixture.scaleByHand(0);
  await Deno.remove(fixture.store, { recursive: true });
  await copied(copy, fixture.store);
  await using operator = fixture.start();
  await operator.ready;
  const line = operator.lines.find((line) => /replaced device/.test(line)) ?? "";
  assert.match(line, /older than what the homeserver knows: it was restored from a backup/);
  const after = await listed(fixture);
  assert.deepEqual(after.masterKey, before.masterKey);
  assert.notDeepEqual(after.devices, before.devices);
  assert.equal(fixture.replicas, 0, "the start of before was not done again");
  await command(fixture, roomId, "start");
  assert.equal(await operator.stop(), 0);
});
