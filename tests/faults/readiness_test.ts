import assert from "node:assert/strict";
import { freePort } from "../../testbed/network.ts";
import { Fixture } from "./fixture.ts";

Deno.test("an operator is not ready while the Kubernetes API doesn't answer, and is within half a minute when it does", async () => {
  await using fixture = await Fixture.open();
  const fault = fixture.kubernetes.fault({ effect: "drop" });
  await using operator = fixture.start({ environment: { HTTP_ADDRESS: `127.0.0.1:${freePort()}` } });
  await operator.ready;
  assert.deepEqual(await operator.probe("readyz"), { status: 503, text: "the Kubernetes API does not answer" });
  assert.deepEqual(await operator.probe("healthz"), { status: 200, text: "alive" });

  const begin = performance.now();
  fault[Symbol.dispose]();
  await operator.untilReady(45_000);
  console.log(`ready ${((performance.now() - begin) / 1_000).toFixed(1)} s after the Kubernetes API was back`);
  const { status, text: metrics } = await operator.probe("metrics");
  assert.equal(status, 200);
  assert.match(metrics, /^openclaw_toggle_sync_age_seconds \d/m);
  assert.equal(await operator.stop(), 0);
});
