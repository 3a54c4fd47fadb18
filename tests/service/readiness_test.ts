import assert from "node:assert/strict";
import { becomeReady, Health, type ReadinessOptions } from "../../lib/service/mod.ts";

const target = { alias: "clawdbot", kind: "deployment", namespace: "ours", name: "clawdbot" } as const;
const counts = { desired: 1, ready: 1 };

/** A start whose signing and reading end when the test says so. */
function start(signingProblem?: string) {
  const health = new Health();
  const signed = Promise.withResolvers<void>();
  const read = Promise.withResolvers<typeof counts>();
  let onTried = () => {};
  const session = {
    self: "@toggle:example.org",
    signingProblem: signingProblem as string | undefined,
    untilSigned: (_key: unknown, tried: () => void) => {
      onTried = tried;
      return signed.promise;
    },
  };
  const options: ReadinessOptions = {
    ...{ health, session, targets: [target], recoveryKey: undefined },
    scaler: { read: () => read.promise },
  };
  const done = becomeReady(options, new AbortController().signal);
  return { health, session, signed, read, tried: () => onTried(), done };
}

/** Lets everything run that waits for no event. */
const settled = () => new Promise<void>((resolve) => setTimeout(resolve));

Deno.test("becomeReady() waits for the first attempt to sign and for the targets, then until it is signed", async () => {
  const { health, signed, read, tried, done } = start();
  read.resolve(counts);
  await settled();
  assert.equal(health.readiness().reason, "starting");
  tried();
  await settled();
  assert.equal(health.readiness().reason, "ready");
  signed.resolve();
  await done;
});

Deno.test("becomeReady() waits until the device is signed if commands need that", async () => {
  const { health, session, signed, read, tried, done } = start("this device is not signed");
  read.resolve(counts);
  tried();
  await settled();
  assert.deepEqual(health.readiness(), { ok: false, reason: "this device is not signed" });
  session.signingProblem = undefined;
  await settled();
  assert.equal(health.readiness().reason, "starting");
  signed.resolve();
  await done;
  assert.equal(health.readiness().reason, "ready");
});

Deno.test("becomeReady() ignores a target that can't be read, but waits for the attempt", async () => {
  const { health, signed, read, tried, done } = start();
  tried();
  await settled();
  assert.equal(health.readiness().reason, "starting");
  read.reject(new Error("not found"));
  signed.resolve();
  await done;
  assert.equal(health.readiness().reason, "ready");
});

Deno.test("becomeReady() ends with the error that ends the signing", async () => {
  const { health, signed, read, done } = start();
  read.resolve(counts);
  signed.reject(new Error("the recovery key doesn't fit"));
  await assert.rejects(done, /doesn't fit/);
  assert.equal(health.readiness().reason, "starting");
});
