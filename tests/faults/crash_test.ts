import assert from "node:assert/strict";
import type { Pin } from "../../lib/authorization/mod.ts";
import { openStore } from "../../lib/store/mod.ts";
import { crash, type Said, told } from "./crash.ts";
import { Place } from "./place.ts";
import { roomOf, sandboxGround } from "./sandbox_ground.ts";

const KILLS = Number(/^--kills=(\d+)$/.exec(Deno.args.join(" "))?.[1] ?? 8);
Deno.test(`killed ${KILLS} times at random moments, the operator loses nothing and does nothing twice`, async () => {
  await using place = await Place.open();
  const figures = await crash(sandboxGround(place), { kills: KILLS });
  console.log(told(figures));
  const { lost, doubled, unreadable, turnedBack } = figures;
  assert.deepEqual({ lost, doubled, unreadable, turnedBack }, { lost: 0, doubled: 0, unreadable: 0, turnedBack: 0 });
  assert.ok(figures.sessions > 1);

  await using store = await openStore({ folder: place.store, holder: { host: "test", pid: Deno.pid } });
  assert.deepEqual(store.journal.unsettled(0), []);
  assert.deepEqual(store.journal.roomsToAnswer(), []);
  const pin = store.pins.get<Pin>(place.anna.userId);
  assert.equal(pin?.kind === "identity" && pin.masterKey, await place.anna.crypto.masterKey());
});

Deno.test("control: of a journal that is not committed, what was done is done once more", async () => {
  await using place = await Place.open();
  const lateCommit = {
    environment: { LATE_DATABASE: "state.sqlite3", LATE_FROM: "signal" },
    flags: ["--preload", new URL("late_commit.ts", import.meta.url).pathname],
  };
  await using operator = place.start(lateCommit);
  await operator.ready;
  const room = roomOf(place, await place.invite());
  await room.joined();
  const answered = async (eventId: string, what: string) => {
    const isAnswer = (one: Said) => one.about === eventId && one.quiet && one.text !== "";
    await room.until(() => room.said().some(isAnswer), `an answer to ${what}`);
  };
  await answered(await room.say("start"), "start");
  await answered(await room.say("stop"), "stop");
  assert.deepEqual(place.effects, [1, 0]);

  const { promise: uncommitted, resolve } = Promise.withResolvers<void>();
  operator.onLine = (line) => line.includes("nothing is committed") && resolve();
  operator.signal("SIGUSR2");
  await uncommitted;
  await answered(await room.say("start"), "start");
  await answered(await room.say("stop"), "stop");
  await operator.kill();
  await using next = place.start();
  await next.ready;
  // Another command for the target, so that its answer comes after everything that is redone. A status wouldn't wait.
  await answered(await room.say("stop"), "the last stop");
  assert.deepEqual(place.effects, [1, 0, 1, 0, 1, 0], "the control has done nothing twice");
});
