import assert from "node:assert/strict";
import { freePort } from "../../testbed/mod.ts";
import { Place } from "./place.ts";

Deno.test("an operator is not ready while the Kubernetes API doesn't answer, and is within half a minute when it does", async () => {
  await using place = await Place.open();
  const port = freePort();
  const ask = async (path: string) => {
    const response = await fetch(`http://127.0.0.1:${port}/${path}`);
    return [response.status, (await response.text()).trim()];
  };
  const fault = place.kubernetes.fault({ effect: "drop" });
  await using operator = await place.start({ environment: { HTTP_ADDRESS: `127.0.0.1:${port}` } });
  await operator.ready;
  assert.deepEqual(await ask("readyz"), [503, "the Kubernetes API does not answer"]);
  assert.deepEqual(await ask("healthz"), [200, "alive"]);

  const begin = performance.now();
  fault[Symbol.dispose]();
  while ((await ask("readyz"))[0] !== 200) {
    assert.ok(performance.now() - begin < 45_000, operator.lines.join("\n"));
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  console.log(`ready ${((performance.now() - begin) / 1_000).toFixed(1)} s after the Kubernetes API was back`);
  const [status, metrics = ""] = await ask("metrics");
  assert.equal(status, 200);
  assert.match(String(metrics), /^openclaw_toggle_sync_age_seconds \d/m);
  assert.equal(await operator.stop(), 0);
});
