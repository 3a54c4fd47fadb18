/** The crash suite with as many kills as are asked for: `deno task e2e:long --kills=1000`. */

import assert from "node:assert/strict";
import { crashOnRealServers } from "../e2e/crash.ts";
import { crash, summary } from "../faults/crash.ts";
import { Fixture } from "../faults/fixture.ts";
import { sandboxFixture } from "../faults/sandbox_fixture.ts";
import { NotReady } from "../operator_process.ts";
import { countOf } from "./arguments.ts";

const KILLS = countOf("kills", 1_000);
const CONTROL_KILLS = countOf("control-kills", 40);
const ROUND = 4;

Deno.test(`killed ${KILLS} times on real servers, the operator loses nothing and does nothing twice`, async () => {
  await crashOnRealServers(KILLS);
});

for (const database of ["state.sqlite3", "crypto-1.sqlite3"]) {
  Deno.test(`control: with ${database} committed late, at most ${CONTROL_KILLS} kills do harm`, async () => {
    const flags = ["--preload", new URL("../faults/late_commit.ts", import.meta.url).pathname];
    let harm = 0;
    // Where a kill falls is chance: round after round, until one has done harm.
    for (let kills = 0; harm === 0 && kills < CONTROL_KILLS; kills += ROUND) {
      await using place = await Fixture.open();
      const fixture = sandboxFixture(place, { flags, environment: { LATE_DATABASE: database } });
      try {
        const figures = await crash(fixture, { kills: ROUND, burst: 2, patienceMs: 15_000 });
        console.log(`${database} committed late: ${summary(figures)}`);
        harm += figures.lost + figures.doubled + figures.unreadable;
      } catch (error) {
        // A store that can't be used any more is harm, too.
        if (!(error instanceof NotReady)) throw error;
        console.log(`${database} committed late: ${error.message}`);
        harm += 1;
      }
    }
    assert.ok(harm > 0, "the control has lost nothing");
  });
}
