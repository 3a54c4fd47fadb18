/** The crash suite with as many kills as are asked for: `deno task e2e:long --kills=1000`. */

import assert from "node:assert/strict";
import { crashOnRealServers } from "../e2e/crash.ts";
import { crash, told } from "../faults/crash.ts";
import { Place } from "../faults/place.ts";
import { sandboxGround } from "../faults/sandbox_ground.ts";
import { countOf } from "./arguments.ts";

const KILLS = countOf("kills", 1_000);
const CONTROL_KILLS = countOf("control-kills", 20);

Deno.test(`killed ${KILLS} times on real servers, the operator loses nothing and does nothing twice`, async () => {
  await crashOnRealServers(KILLS);
});

for (const database of ["state.sqlite3", "crypto-1.sqlite3"]) {
  Deno.test(`control: with ${database} committed late, ${CONTROL_KILLS} kills do harm`, async () => {
    await using place = await Place.open();
    const flags = ["--preload", new URL("../faults/late_commit.ts", import.meta.url).pathname];
    const ground = sandboxGround(place, { flags, environment: { LATE_DATABASE: database } });
    const figures = await crash(ground, { kills: CONTROL_KILLS, burst: 2, patienceMs: 15_000 });
    console.log(`${database} committed late: ${told(figures)}`);
    assert.ok(figures.lost + figures.doubled + figures.unreadable > 0, "the control has lost nothing");
  });
}
