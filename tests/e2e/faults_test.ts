/**
 * Every fault that can occur around the operator, on real servers. Prints a table of the operator's reactions.
 * Arguments after `--`: `--long` adds outages of several minutes; anything else selects the rows that contain it.
 */

import { startTestbed } from "../../testbed/mod.ts";
import { endingRows } from "./faults/endings.ts";
import { homeserverRows } from "./faults/homeserver.ts";
import { kubernetesRows } from "./faults/kubernetes.ts";
import { loginRows } from "./faults/login.ts";
import { machineRows } from "./faults/machine.ts";
import { Results } from "./results.ts";
import { judge, runRows, tableOf } from "./faults/table.ts";

const long = Deno.args.includes("--long");
const wanted = Deno.args.find((argument) => !argument.startsWith("--")) ?? "";
const rows = [...homeserverRows, ...kubernetesRows, ...loginRows, ...machineRows, ...endingRows]
  .filter((row) => (long || !row.long) && row.fault.includes(wanted));

/** Each row has its own operator, which mostly waits. */
const atOnce = 8;

Deno.test("faults", async (t) => {
  await using testbed = await startTestbed();
  const mayStop = testbed.homeserver.isOurs && testbed.cluster.auditLog !== undefined;
  const alice = await testbed.person("alice");
  const ground = { testbed, alice, made: () => {} };
  await using results = new Results("faults", testbed.homeserver.kind, wanted === "");
  const here = rows.filter(({ fault, synapseOnly }) => !results.isElsewhere({ name: fault, synapseOnly }));
  const outcomes = await runRows(here.filter((row) => mayStop || !row.alone), ground, atOnce);
  console.log(`\n${tableOf(outcomes)}\n`);
  for (const outcome of outcomes) await results.step(t, { name: outcome.fault }, () => judge(outcome));
});
