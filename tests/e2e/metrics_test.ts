/** Checks names and types of the metrics with Prometheus' own linter. */

import assert from "node:assert/strict";
import { Metrics } from "../../lib/service/mod.ts";
import { promlint } from "../../testbed/mod.ts";

async function lint(text: string): Promise<{ code: number; said: string }> {
  const child = new Deno.Command(await promlint(), { stdin: "piped", stdout: "piped", stderr: "piped" }).spawn();
  await new Response(text).body?.pipeTo(child.stdin);
  const { code, stdout, stderr } = await child.output();
  return { code, said: new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr) };
}

Deno.test("Prometheus' linter has nothing to say about the metrics", async () => {
  const metrics = await Metrics.open("1.2.3", () => 0);
  metrics.refused("stranger");
  metrics.commanded({ command: "start", outcome: "done" });
  metrics.scaled("clawdbot", 70);
  metrics.ready("clawdbot", 14_000);
  metrics.wokeUp("clawdbot", "chat");
  metrics.replicas("clawdbot", { desired: 1, ready: 0 });
  assert.deepEqual(await lint(await metrics.text()), { code: 0, said: "" });
});

Deno.test("Prometheus' linter sees what breaks the conventions", async () => {
  const { code, said } = await lint(
    "# TYPE started counter\nstarted 1\n# TYPE age_milliseconds gauge\nage_milliseconds 1\n",
  );
  assert.equal(code, 1);
  assert.match(said, /^started: no help text$/m);
  assert.match(said, /^started: counter metrics should have "_total" suffix$/m);
  assert.match(said, /^age_milliseconds: use base unit "seconds"/m);
});
