/** The alerts in deploy/, evaluated by Prometheus' own engine: when they fire and when they resolve. */

import assert from "node:assert/strict";
import { loadYaml } from "@kubernetes/client-node";
import { promrules } from "../../testbed/mod.ts";

const file = new URL("../../deploy/components/monitoring/prometheusrule.yaml", import.meta.url);
const { spec: { groups } } = loadYaml<{ spec: { groups: { rules: { alert: string; expr: string }[] }[] } }>(
  await Deno.readTextFile(file),
);
const rules = new Map(groups.flatMap(({ rules }) => rules).map(({ alert, expr }) => [alert, expr]));

/** A series with one sample per minute. */
interface Series {
  readonly labels: Readonly<Record<string, string>>;
  readonly samples: readonly (number | null)[];
}

/** Repeats one value for this many minutes. null means not scraped. */
function minutes(count: number, value: number | null): (number | null)[] {
  return Array.from({ length: count }, () => value);
}

const pod = (name: string) => ({ namespace: "clawdbot", pod: name });
const build = (name: string) => ({ __name__: "openclaw_toggle_build_info", version: "1.2.3", ...pod(name) });
const age = { __name__: "openclaw_toggle_sync_age_seconds", ...pod("a") };
const failed = { __name__: "openclaw_toggle_commands_total", command: "start", outcome: "failed", ...pod("a") };

const rows: readonly [
  name: string,
  alert: string,
  series: readonly Series[],
  fires: readonly number[],
  silent: readonly number[],
][] = [
  ["nothing was ever scraped", "OpenclawToggleGone", [], [], [0, 60, 600]],
  ["it runs", "OpenclawToggleGone", [{ labels: build("a"), samples: minutes(60, 1) }], [], [10, 59]],
  [
    "it is gone, and after six hours nobody is told any more",
    "OpenclawToggleGone",
    [{ labels: build("a"), samples: minutes(30, 1) }],
    [40, 120, 300],
    [29, 400, 700],
  ],
  [
    "another pod has taken its place",
    "OpenclawToggleGone",
    [{ labels: build("a"), samples: minutes(30, 1) }, {
      labels: build("b"),
      samples: [...minutes(31, null), ...minutes(60, 1)],
    }],
    [],
    [32, 60, 90],
  ],
  ["it hears nothing", "OpenclawToggleDeaf", [{ labels: age, samples: [...minutes(5, 10), ...minutes(5, 400)] }], [7], [
    3,
  ]],
  ["nothing is scraped", "OpenclawToggleDeaf", [{ labels: age, samples: minutes(5, 400) }], [4], [60]],
  [
    "the first failure of a kind, which begins its series",
    "OpenclawToggleFails",
    [{ labels: failed, samples: [...minutes(20, null), ...minutes(40, 1)] }],
    [21, 30],
    [10, 45],
  ],
  [
    "another failure",
    "OpenclawToggleFails",
    [{ labels: failed, samples: [...minutes(30, 1), ...minutes(40, 2)] }],
    [32],
    [25, 60],
  ],
];

Deno.test("each alert fires when it should, and ends", async (t) => {
  const program = await promrules();
  for (const [name, alert, series, fires, silent] of rows) {
    await t.step(`${alert}: ${name}`, async () => {
      const at = [...fires, ...silent];
      const queries = at.map((minute) => ({ expr: rules.get(alert) ?? "", minute }));
      const child = new Deno.Command(program, { stdin: "piped", stdout: "piped", stderr: "piped" }).spawn();
      const writer = child.stdin.getWriter();
      await writer.write(new TextEncoder().encode(JSON.stringify({ series, queries })));
      await writer.close();
      const { success, stdout, stderr } = await child.output();
      const text = new TextDecoder();
      assert.ok(success, text.decode(stderr));
      const found: unknown[][] = JSON.parse(text.decode(stdout));
      assert.deepEqual(at.filter((_, index) => (found[index]?.length ?? 0) > 0), fires);
    });
  }
  const tried = new Set(rows.map(([, alert]) => alert));
  assert.deepEqual([...rules.keys()].filter((alert) => !tried.has(alert)), []);
});
