import assert from "node:assert/strict";
import { canI, serverVersion, whoAmI } from "../../lib/scaler/mod.ts";
import { atSandbox, baseRole, extendedRole, patient, target } from "./at_sandbox.ts";

Deno.test("serverVersion() and whoAmI() tell where and who we are", async () => {
  await using at = await atSandbox();
  assert.match(await serverVersion(at.api, patient), /^v1\./);
  assert.equal(await whoAmI(at.api, patient), "system:serviceaccount:agents:operator");
  at.sandbox.revoke(at.token);
  await assert.rejects(whoAmI(at.api, patient), /refused the credentials/);
});

Deno.test("serverVersion() and whoAmI() are empty where the server does not say", async () => {
  await using at = await atSandbox();
  at.sandbox.fault({ effect: { answer: 200, body: '{"gitVersion":5,"status":null}' } });
  assert.deepEqual([await serverVersion(at.api, patient), await whoAmI(at.api, patient)], ["", ""]);
});

Deno.test("canI() reports each permission, and which ones a Role lacks", async (t) => {
  const deployment = 'deployments.apps "clawdbot"';
  const rows: [verb: string, on: Parameters<typeof canI>[3], resource: string, base: boolean, extended: boolean][] = [
    ["get", undefined, deployment, true, true],
    ["get", "scale", 'deployments.apps/scale "clawdbot"', true, true],
    ["patch", "scale", 'deployments.apps/scale "clawdbot"', true, true],
    ["patch", undefined, deployment, false, false],
    ["watch", undefined, deployment, false, true],
    ["list", "pods", "pods", false, true],
    ["watch", "pods", "pods", false, false],
    ["create", "events", "events", false, true],
  ];
  for (const [name, rules, column] of [["base", baseRole, 3], ["extended", extendedRole, 4]] as const) {
    await t.step(name, async () => {
      await using at = await atSandbox({ rules });
      for (const row of rows) {
        const [verb, on, resource] = row;
        const answer = await canI(at.api, target, verb, on, patient);
        assert.deepEqual(answer, { allowed: row[column], resource: `${resource} in namespace "agents"` });
      }
      const nobody = await canI(at.api, { ...target, name: "nobody" }, "patch", "scale", patient);
      assert.equal(nobody.allowed, false);
    });
  }
});
