import assert from "node:assert/strict";
import { loadYaml } from "@kubernetes/client-node";
import { type Metric, METRICS, Metrics } from "../../lib/service/mod.ts";

Deno.test("Metrics.text() contains what was counted and measured", async () => {
  let nowMs = 0;
  const metrics = await Metrics.open("1.2.3", () => 1_500, () => nowMs);
  metrics.refused("stranger");
  metrics.refused("stranger");
  metrics.commanded({ command: "start", outcome: "done" });
  metrics.undecryptable();
  metrics.retried();
  metrics.scaled("clawdbot", 70);
  metrics.ready("clawdbot", 14_000);
  metrics.woken("clawdbot", 22_000);
  metrics.wokeUp("clawdbot", "schedule");
  // On for 60 s, off for 100 s, then on for 5 s until now.
  metrics.replicas("clawdbot", { desired: 2, ready: 0 });
  nowMs += 40_000;
  await metrics.text();
  nowMs += 20_000;
  metrics.replicas("clawdbot", { desired: 0, ready: 0 });
  nowMs += 100_000;
  metrics.replicas("clawdbot", { desired: 1, ready: 0 });
  nowMs += 5_000;
  metrics.replicas("ollama", { desired: 0, ready: 0 });
  const lines = (await metrics.text()).split("\n");
  const expected = [
    'openclaw_toggle_refusals_total{reason="stranger"} 2',
    'openclaw_toggle_commands_total{command="start",outcome="done"} 1',
    "openclaw_toggle_undecryptable_messages_total 1",
    "openclaw_toggle_retries_total 1",
    "openclaw_toggle_sync_age_seconds 1.5",
    'openclaw_toggle_scale_duration_seconds_bucket{le="0.1",target="clawdbot"} 1',
    'openclaw_toggle_scale_duration_seconds_sum{target="clawdbot"} 0.07',
    'openclaw_toggle_ready_duration_seconds_bucket{le="20",target="clawdbot"} 1',
    'openclaw_toggle_wake_duration_seconds_sum{target="clawdbot"} 22',
    'openclaw_toggle_ready_duration_seconds_bucket{le="10",target="clawdbot"} 0',
    'openclaw_toggle_wake_ups_total{target="clawdbot",cause="schedule"} 1',
    'openclaw_toggle_awake_seconds_total{target="clawdbot"} 65',
    'openclaw_toggle_awake_seconds_total{target="ollama"} 0',
    'openclaw_toggle_replicas{target="clawdbot",state="desired"} 1',
    'openclaw_toggle_replicas{target="clawdbot",state="ready"} 0',
    `openclaw_toggle_build_info{version="1.2.3",deno="${Deno.version.deno}"} 1`,
  ];
  assert.deepEqual(expected.filter((line) => !lines.includes(line)), []);
  for (const { name, kind } of Object.values<Metric>(METRICS)) {
    assert.ok(lines.includes(`# TYPE ${name} ${kind}`), name);
  }
  assert.equal(lines.filter((line) => line.startsWith("# TYPE ")).length, Object.keys(METRICS).length);
});

Deno.test("Metrics.open() starts at zero each time", async () => {
  const first = await Metrics.open("1.2.3", () => 0);
  first.undecryptable();
  const second = await Metrics.open("1.2.3", () => 0);
  assert.match(await second.text(), /^openclaw_toggle_undecryptable_messages_total 0$/m);
});

Deno.test("dashboard and alerts ask for metrics that there are, by labels that they have", async () => {
  const read = (name: string) =>
    Deno.readTextFile(new URL(`../../deploy/components/monitoring/${name}`, import.meta.url));
  const texts = {
    "dashboard.json": await read("dashboard.json"),
    "prometheusrule.yaml": await read("prometheusrule.yaml"),
  };
  const known = new Map(
    Object.values<Metric>(METRICS).flatMap(({ name, kind, labels }): [string, readonly string[]][] =>
      kind === "histogram"
        ? [[`${name}_bucket`, [...labels, "le"]], [`${name}_sum`, labels], [`${name}_count`, labels]]
        : [[name, labels]]
    ),
  );
  const shown = new Set<string>();
  for (const [file, text] of Object.entries(texts)) {
    for (const [, name = "", selector = ""] of text.matchAll(/\b(openclaw_toggle_\w+)(?:\{([^}]*)\})?/g)) {
      const labels = known.get(name);
      assert.ok(labels, `${file} asks for ${name}`);
      for (const [, label = ""] of selector.matchAll(/(\w+)\s*[=!]/g)) {
        assert.ok(labels.includes(label), `${name}: ${label}`);
      }
      shown.add(name.replace(/_bucket$/, ""));
    }
  }
  assert.deepEqual(Object.values<Metric>(METRICS).map(({ name }) => name).filter((name) => !shown.has(name)), []);
  const { panels } = JSON.parse(texts["dashboard.json"]) as { panels: { targets: { expr: string }[] }[] };
  assert.ok(panels.every(({ targets }) => targets.length > 0 && targets.every(({ expr }) => expr.length > 0)));
  const { spec: { groups } } = loadYaml<{ spec: { groups: { rules: { alert: string; expr: string }[] }[] } }>(
    texts["prometheusrule.yaml"],
  );
  assert.deepEqual(groups.flatMap(({ rules }) => rules.map(({ alert, expr }) => [alert, expr.length > 0])), [
    ["OpenclawToggleDeaf", true],
    ["OpenclawToggleGone", true],
    ["OpenclawToggleFails", true],
  ]);
  const fails = groups.flatMap(({ rules }) => rules).at(-1)?.expr ?? "";
  assert.match(fails, / or (\S+) unless \1 offset 15m$/, "the first failure of a kind counts, too");
});
