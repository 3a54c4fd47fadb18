/**
 * Nothing that others send crashes, fills, silences or delays the operator. Prints a table of the inputs and their
 * outcomes. An argument after `--` selects the rows whose number or input contains it.
 */

import assert from "node:assert/strict";
import { startTestbed } from "../../testbed/mod.ts";
import { clusterRows } from "./hostile/cluster.ts";
import { cryptoRows } from "./hostile/crypto.ts";
import { eventRows } from "./hostile/events.ts";
import { loginRows } from "./hostile/login.ts";
import { targetRows } from "./hostile/targets.ts";
import { missingInTable, processEndsTable } from "./hostile/process_ends.ts";
import { type HostileRow, hostileTable, runHostile } from "./hostile/row.ts";
import { Results } from "./results.ts";
import { syncRows } from "./hostile/sync.ts";

const wanted = Deno.args.find((argument) => !argument.startsWith("--")) ?? "";
const all: readonly HostileRow[] = [
  ...clusterRows,
  ...cryptoRows,
  ...eventRows,
  ...loginRows,
  ...syncRows,
  ...targetRows,
];
const rows = all
  .filter(({ number, input }) => number.replace(/[a-z]$/, "") === wanted || number === wanted || input.includes(wanted))
  .sort((one, other) => parseInt(one.number) - parseInt(other.number));

/** Each row has its own operator, which mostly waits. */
const atOnce = 6;

Deno.test("hostile input", async (t) => {
  await using testbed = await startTestbed();
  const alice = await testbed.person("alice");
  const ground = { testbed, alice, made: () => {} };
  await using results = new Results("hostile input", testbed.homeserver.kind, wanted === "");
  const nameOf = ({ number, input }: HostileRow) => `${number} ${input}`;
  const here = rows.filter((row) => !results.isElsewhere({ name: nameOf(row), synapseOnly: row.synapseOnly }));
  const outcomes = await runHostile(here, ground, atOnce);
  console.log(`\n${hostileTable(outcomes)}\n`);
  for (const outcome of outcomes) {
    await results.step(t, { name: nameOf(outcome.row) }, () => {
      if ("error" in outcome) throw outcome.error;
    });
  }
});

Deno.test("each place that ends the process is listed, with its test", async () => {
  console.log(`\n${processEndsTable()}\n`);
  assert.deepEqual(await missingInTable(new URL("../../", import.meta.url)), []);
});
