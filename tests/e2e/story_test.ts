/**
 * How the operator reports starts, on real servers. Prints both views of the chat: of apps that show edits and of apps
 * that don't.
 */

import { cases } from "./story/cases.ts";
import { Results } from "./results.ts";
import { World } from "./story/world.ts";

// A given cluster can't be made to fail pods in the required ways.
const ignore = Deno.env.has("KUBECONFIG");

Deno.test({ name: "the operator tells how its targets fare", ignore }, async (t) => {
  await using world = await World.create();
  await using results = new Results("stories", world.testbed.homeserver.kind);
  const stories: string[] = [];
  try {
    for (const { name, setting, run } of cases) {
      const title = `${name} (${setting.role} Role)`;
      await results.step(t, { name: title }, async () => {
        await world.run(setting);
        const scene = world.scene();
        try {
          const note = await run(world, scene);
          stories.push([scene.transcript(title), ...note === undefined ? [] : [`  ${note}`]].join("\n"));
        } catch (error) {
          console.log(`${scene.transcript(title)}\nthe end of the operator's log:\n${await world.log()}`);
          throw error;
        } finally {
          await world.rest();
        }
      });
    }
  } finally {
    console.log(`\n${stories.join("\n\n")}\n`);
  }
});
