/**
 * Whom the operator trusts, on real servers: every kind of request from every kind of sender, attacks by the
 * homeserver's administrator, and the operator's own identity. The people use two other implementations of Matrix
 * encryption.
 */

import assert from "node:assert/strict";
import { Results } from "./results.ts";
import { attackCases } from "./trust/attacks.ts";
import { discretionCases } from "./trust/discretion.ts";
import { growingCases } from "./trust/growing.ts";
import { allWays, Matrix } from "./trust/matrix.ts";
import { phoneCases } from "./trust/phones.ts";
import { recoveryCases } from "./trust/recovery.ts";
import { roomCases } from "./trust/rooms.ts";
import { gather } from "./trust/senders.ts";
import { stagedCases } from "./trust/staged.ts";
import { type Case, Story } from "./trust/story.ts";
import { verificationCases } from "./trust/verifying.ts";
import { createWorld } from "./trust/world.ts";

Deno.test("who is believed", async (t) => {
  await using world = await createWorld();
  await using results = new Results("who is believed", world.testbed.homeserver.kind);
  const printed: (Story | Matrix)[] = [];
  const runAll = async (title: string, cases: readonly Case[]) => {
    const story = new Story(title);
    printed.push(story);
    for (const one of cases) await results.step(t, one, () => one.run(world, story));
  };
  try {
    await runAll("the phones", phoneCases);
    const matrix = new Matrix(world, await gather(world));
    printed.push(matrix);
    for (const way of allWays) {
      await results.step(t, { name: `${way.name}, as every sender` }, async () => {
        await matrix.try(way);
        matrix.check(way.name);
      });
    }
    await results.step(t, { name: "invitation while down, as every sender" }, async () => {
      await matrix.tryInvitationsWhileDown();
      matrix.check("invitation while down");
    });
    await results.step(t, { name: "every refusal is counted once" }, async () => {
      assert.deepEqual(await world.log.refusals(), matrix.reasons);
    });
    await runAll("somebody's own phones", growingCases);
    await runAll("whoever runs the homeserver …", attackCases);
    await runAll("a homeserver that forges …", stagedCases);
    await runAll("emojis", verificationCases);
    await runAll("rooms, and ways back", roomCases);
    await runAll("the operator's own identity", recoveryCases);
    await runAll("what is left behind", discretionCases);
  } finally {
    for (const each of printed) console.log(`\n${each}\n`);
  }
});
