import assert from "node:assert/strict";
import { ConfigError, RejectedError, TransientError } from "../../lib/errors.ts";
import { type IdentityState, untilSigned } from "../../lib/session/cross_signing.ts";
import { never, type Running, World } from "./world.ts";

const recoveryKey = new Uint8Array(32).fill(7);
const uploadSignatures = "/keys/signatures/upload";
const uploadIdentity = "/keys/device_signing/upload";

/** What others see of the operator: its master key, and whether its present device is signed by it. */
async function seenBy(world: World, running: Running): Promise<{ masterKey: string | undefined; signed: boolean }> {
  const observer = await world.person(`observer${crypto.randomUUID().slice(0, 8)}`);
  const answer = await observer.api.request("POST", "/keys/query", { device_keys: { "@toggle:localhost": [] } });
  // deno-lint-ignore no-explicit-any -- an answer of the Matrix API
  const { master_keys, self_signing_keys, device_keys } = answer as any;
  const identity = master_keys?.["@toggle:localhost"]?.keys;
  const selfSigning = Object.keys(self_signing_keys?.["@toggle:localhost"]?.keys ?? {})[0] ?? "none";
  const deviceId = running.store.account.load()?.deviceId ?? "";
  const signatures = device_keys["@toggle:localhost"][deviceId].signatures["@toggle:localhost"];
  return { masterKey: identity && String(Object.values(identity)[0]), signed: selfSigning in signatures };
}

/** Begins anew with an empty folder, as if the volume were lost. */
async function loseVolume(world: World): Promise<void> {
  await Deno.remove(world.folder, { recursive: true });
}

Deno.test("Session.ensureIdentity() makes an identity at the first start and signs the device", async () => {
  await using world = new World();
  await using running = await world.open();
  const state = await running.session.ensureIdentity(undefined, false, never);
  assert.ok(state.signed);
  assert.deepEqual(await seenBy(world, running), { masterKey: state.masterKey, signed: true });
});

Deno.test("Session.ensureIdentity() changes nothing when all is in order", async () => {
  await using world = new World();
  {
    await using running = await world.open();
    await running.session.ensureIdentity(recoveryKey, false, never);
  }
  await using again = await world.open();
  const sent = () =>
    world.homeserver.requests.entries.filter(({ method, template }) =>
      method === "PUT" || [uploadIdentity, uploadSignatures, "/keys/query"].includes(template)
    ).length;
  const before = sent();
  assert.ok((await again.session.ensureIdentity(recoveryKey, false, never)).signed);
  assert.equal(sent(), before);
});

Deno.test("Session.ensureIdentity() restores the identity by the recovery key after the volume was lost", async () => {
  await using world = new World();
  let first: string;
  {
    await using running = await world.open();
    const state = await running.session.ensureIdentity(recoveryKey, false, never);
    assert.ok(state.signed);
    first = state.masterKey;
  }
  await loseVolume(world);
  await using anew = await world.open();
  await anew.session.ensureIdentity(recoveryKey, false, never);
  assert.deepEqual(await seenBy(world, anew), { masterKey: first, signed: true });
});

Deno.test("Session.ensureIdentity() replaces nothing without the right recovery key", async (t) => {
  await using world = new World();
  let first: string;
  {
    await using running = await world.open();
    const state = await running.session.ensureIdentity(recoveryKey, false, never);
    assert.ok(state.signed);
    first = state.masterKey;
  }
  await loseVolume(world);
  await using anew = await world.open();
  await t.step("no key: it stays unsigned, and says what to do", async () => {
    const state = await anew.session.ensureIdentity(undefined, false, never);
    assert.ok(!state.signed);
    assert.match(state.reason, /RECOVERY_KEY.*--reset-identity/);
    assert.deepEqual(await seenBy(world, anew), { masterKey: first, signed: false });
  });
  await t.step("a wrong key: it says so", async () => {
    const wrong = new Uint8Array(32).fill(8);
    await assert.rejects(anew.session.ensureIdentity(wrong, false, never), (error) => {
      assert.ok(error instanceof ConfigError);
      assert.match(error.message, /RECOVERY_KEY: doesn't open the secret storage of @toggle:localhost/);
      return true;
    });
    assert.deepEqual(await seenBy(world, anew), { masterKey: first, signed: false });
  });
  await t.step("--reset-identity: a new one, the password being asked for", async () => {
    const state = await anew.session.ensureIdentity(undefined, true, never);
    assert.ok(state.signed);
    assert.notEqual(state.masterKey, first);
    assert.deepEqual(await seenBy(world, anew), { masterKey: state.masterKey, signed: true });
  });
});

Deno.test("Session.ensureIdentity() completes at the next start what was cut short", async (t) => {
  const cuts: [where: string, path: string | RegExp, method: string, skip: number][] = [
    ["before the identity's keys", uploadIdentity, "POST", 0],
    ["after the identity's keys, before the signatures", uploadSignatures, "POST", 0],
    ["in the midst of making secret storage", /account_data/, "PUT", 1],
    ["before the secrets are kept", /account_data/, "PUT", 2],
    ["after the first secret", /account_data/, "PUT", 3],
  ];
  for (const [where, path, method, skip] of cuts) {
    for (const after of [false, true]) {
      await t.step(`${where}, ${after ? "done but unanswered" : "not done"}`, async () => {
        await using world = new World();
        {
          await using running = await world.open();
          using _cut = world.homeserver.fault({ path, method, skip, after, answer: { status: 502 } });
          await assert.rejects(running.session.ensureIdentity(recoveryKey, false, never), { name: "TransientError" });
        }
        let made: string;
        {
          await using running = await world.open();
          const state = await running.session.ensureIdentity(recoveryKey, false, never);
          assert.ok(state.signed);
          made = state.masterKey;
          assert.deepEqual(await seenBy(world, running), { masterKey: made, signed: true });
        }
        await loseVolume(world);
        await using anew = await world.open();
        await anew.session.ensureIdentity(recoveryKey, false, never);
        assert.deepEqual(await seenBy(world, anew), { masterKey: made, signed: true });
      });
    }
  }
});

Deno.test("Session.ensureIdentity() stays unsigned where the identity was reset after it was put into secret storage", async () => {
  await using world = new World();
  {
    await using running = await world.open();
    await running.session.ensureIdentity(recoveryKey, false, never);
  }
  await loseVolume(world);
  {
    // Elsewhere, without the recovery key.
    await using running = await world.open();
    assert.ok((await running.session.ensureIdentity(undefined, true, never)).signed);
  }
  await loseVolume(world);
  await using running = await world.open();
  for (let start = 0; start < 2; start += 1) {
    const state = await running.session.ensureIdentity(recoveryKey, false, never);
    assert.match(state.signed ? "" : state.reason, /may have been reset elsewhere.*--reset-identity/);
  }
});

Deno.test("Session.ensureIdentity() stays unsigned if secret storage holds an invalid secret", async (t) => {
  const spoilt: [what: string, type: string, content: Record<string, unknown>][] = [
    ["a secret that is not base64", "m.cross_signing.master", { iv: "?", ciphertext: "?", mac: "?" }],
    ["a key's description that is not base64", "key", { iv: "?", mac: "?" }],
  ];
  for (const [what, type, content] of spoilt) {
    await t.step(what, async () => {
      await using world = new World();
      {
        await using running = await world.open();
        await running.session.ensureIdentity(recoveryKey, false, never);
      }
      await loseVolume(world);
      const phone = await world.phoneOf("toggle", "secret", { crossSigning: false });
      const data = (name: string) => `/user/${encodeURIComponent("@toggle:localhost")}/account_data/${name}`;
      const { key } = await phone.api.request("GET", data("m.secret_storage.default_key"));
      if (type === "key") {
        const name = `m.secret_storage.key.${key}`;
        await phone.api.request("PUT", data(name), { algorithm: "m.secret_storage.v1.aes-hmac-sha2", ...content });
      } else await phone.api.request("PUT", data(type), { encrypted: { [String(key)]: content } });
      await using running = await world.open();
      assert.equal((await running.session.ensureIdentity(recoveryKey, false, never)).signed, false);
    });
  }
});

Deno.test("untilSigned() tries again, sooner where somebody else has signed the device", async () => {
  const sleeps: number[] = [];
  let signedElsewhere = false;
  const clock = {
    sleep: (ms: number) => {
      sleeps.push(ms);
      if (sleeps.length === 65) signedElsewhere = true;
      return Promise.resolve();
    },
  };
  const states: string[] = [];
  let tries = 0;
  const ensure = (): Promise<IdentityState> => {
    tries += 1;
    if (tries <= 5) return Promise.reject(new TransientError("502"));
    return Promise.resolve(tries < 7 ? { signed: false, reason: "not yet" } : { signed: true, masterKey: "M" });
  };
  const tried = (state: IdentityState) => void states.push(state.signed ? state.masterKey : state.reason);
  await untilSigned(ensure, () => signedElsewhere, tried, never, clock);
  assert.deepEqual(states, ["Gave up after 5 failures in a row: 502", "not yet", "M"]);
  // Four waits of the back-off, ten minutes, and ten seconds.
  assert.deepEqual([sleeps.length, sleeps.slice(4).every((ms) => ms === 10_000)], [65, true]);
});

Deno.test("Session.ensureIdentity() stays unsigned if the homeserver refuses, unless a reset was requested", async (t) => {
  const answer = { status: 403, body: { errcode: "M_FORBIDDEN", error: "no" } };
  for (const path of [uploadIdentity, uploadSignatures]) {
    await t.step(path, async () => {
      await using world = new World();
      await using running = await world.open();
      using _refused = world.homeserver.fault({ path, answer });
      const state = await running.session.ensureIdentity(undefined, false, never);
      assert.ok(!state.signed);
      assert.match(state.reason, /403 M_FORBIDDEN/);
      await assert.rejects(running.session.ensureIdentity(undefined, true, never), RejectedError);
    });
  }
});
