import assert from "node:assert/strict";
import { CredentialError } from "../../lib/errors/mod.ts";
import { canI, serverVersion, whoAmI } from "../../lib/scaler/mod.ts";
import { atSandbox, patient, target } from "./at_sandbox.ts";

Deno.test("serverVersion() and whoAmI() tell where and who we are", async () => {
  await using at = await atSandbox();
  assert.match(await serverVersion(at.api, patient), /^v1\./);
  assert.equal(await whoAmI(at.api, patient), "system:serviceaccount:agents:operator");
  at.sandbox.revoke(at.token);
  await assert.rejects(whoAmI(at.api, patient), CredentialError);
});

Deno.test("serverVersion() and whoAmI() are empty where the server does not say", async () => {
  await using at = await atSandbox();
  at.sandbox.fault({ effect: { answer: 200, body: '{"gitVersion":5,"status":null}' } });
  assert.deepEqual([await serverVersion(at.api, patient), await whoAmI(at.api, patient)], ["", ""]);
});

Deno.test("canI() tells each permission of the base Role, and what it lacks", async () => {
  await using at = await atSandbox();
  const rows: [verb: string, subresource: "scale" | undefined, name: string, allowed: boolean][] = [
    ["get", undefined, "clawdbot", true],
    ["get", "scale", "clawdbot", true],
    ["patch", "scale", "clawdbot", true],
    ["patch", undefined, "clawdbot", false],
    ["watch", undefined, "clawdbot", false],
    ["patch", "scale", "nobody", false],
  ];
  for (const [verb, subresource, name, allowed] of rows) {
    const answer = await canI(at.api, { ...target, name }, verb, subresource, patient);
    const slash = subresource === undefined ? "" : "/scale";
    assert.deepEqual(answer, { allowed, resource: `deployments.apps${slash} "${name}" in namespace "agents"` });
  }
});
