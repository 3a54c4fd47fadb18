import assert from "node:assert/strict";
import type { Pin } from "../../lib/authorization/mod.ts";
import { openStore } from "../../lib/store/mod.ts";
import { crash, type RoomMessage, summary } from "./crash.ts";
import { Fixture } from "./fixture.ts";
import { roomOf, sandboxFixture } from "./sandbox_fixture.ts";

const KILLS = Number(/^--kills=(\d+)$/.exec(Deno.args.join(" "))?.[1] ?? 8);
Deno.test(`killed ${KILLS} times at random moments, the operator loses nothing and does nothing twice`, async () => {
  await using fixture = await Fixture.open();
  const figures = await crash(sandboxFixture(fixture), { kills: KILLS });
  console.log(summary(figures));
  const { lost, doubled, unreadable, turnedBack } = figures;
  assert.deepEqual({ lost, doubled, unreadable, turnedBack }, { lost: 0, doubled: 0, unreadable: 0, turnedBack: 0 });
  assert.ok(figures.sessions > 1);

  await using store = await openStore({ folder: fixture.store, holder: { host: "test", pid: Deno.pid } });
  assert.deepEqual(store.journal.unsettled(0), []);
  assert.deepEqual(store.journal.roomsWithUnsentAnswers(), []);
  const pin = store.pins.get<Pin>(fixture.anna.userId);
  assert.equal(pin?.kind === "identity" && pin.masterKey, await fixture.anna.crypto.masterKey());
});

Deno.test("control: of a journal that is not committed, what was done is done once more", async () => {
  await using fixture = await Fixture.open();
  const lateCommit = {
    environment: { LATE_DATABASE: "state.sqlite3", LATE_FROM: "signal" },
    flags: ["--preload", new URL("late_commit.ts", import.meta.url).pathname],
  };
  await using operator = fixture.start(lateCommit);
  await operator.ready;
  const room = roomOf(fixture, await fixture.invite());
  await room.joined();
  const answered = async (eventId: string, what: string) => {
    const isAnswer = (one: RoomMessage) => one.about === eventId && one.quiet && one.text !== "";
    await room.until(() => room.messages().some(isAnswer), `an answer to ${what}`);
  };
  await answered(await room.say("start"), "start");
  await answered(await room.say("stop"), "stop");
  assert.deepEqual(fixture.effects, [1, 0]);

  const { promise: uncommitted, resolve } = Promise.withResolvers<void>();
  operator.onLine = (line) => line.includes("nothing is committed") && resolve();
  operator.signal("SIGUSR2");
  await uncommitted;
  await answered(await room.say("start"), "start");
  await answered(await room.say("stop"), "stop");
  await operator.kill();
  await using next = fixture.start();
  await next.ready;
  // Another command for the target, so that its answer comes after everything that is redone. A status wouldn't wait.
  await answered(await room.say("stop"), "the last stop");
  assert.deepEqual(fixture.effects, [1, 0, 1, 0, 1, 0], "the control has done nothing twice");
});
