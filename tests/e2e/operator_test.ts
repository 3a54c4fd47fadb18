/** The main function, on real servers: an encrypted chat message scales a Deployment, and the answer is encrypted. */

import { commandCases } from "./cases/commands.ts";
import { enduranceCases } from "./cases/endurance.ts";
import { footprintCases } from "./cases/footprint.ts";
import { refusalCases } from "./cases/refusals.ts";
import { Results } from "./results.ts";
import { createWorld, type World } from "./world.ts";

const cases = [...commandCases, ...refusalCases, ...enduranceCases, ...footprintCases];

Deno.test("the operator", async (t) => {
  await using world = await createWorld();
  await using results = new Results("the operator", world.testbed.homeserver.kind);
  try {
    for (const one of cases) {
      const passed = await results.step(t, one, () => one.run(world));
      if (!passed) await recover(world);
    }
  } finally {
    console.log(`\n${world.report}`);
  }
});

/** Prints the operator's log and restores the state that the next case expects. */
async function recover(world: World): Promise<void> {
  const lines = (await world.operatorLog()).trimEnd().split("\n").slice(-80);
  console.log(`the end of the operator's log:\n${lines.join("\n")}`);
  if (!world.operator.running) await world.startOperator();
  await world.testbed.workloads.scaleTarget(world.namespace, "clawdbot", 0);
  await world.state(({ current }) => current === 0);
}
