import assert from "node:assert/strict";
import { join } from "node:path";
import { Fixture, PATIENCE_MS } from "./fixture.ts";

const flags = ["--preload", new URL("panic.ts", import.meta.url).pathname];

Deno.test("a panic of the Rust crypto ends the operator at once, with code 1 and the reason", async (t) => {
  for (const where of ["encrypting", "decrypting"]) {
    await t.step(where, async () => {
      await using fixture = await Fixture.open();
      const roomId = await fixture.invite();
      await using operator = fixture.start({ flags, environment: { PANIC_AT: where } });
      await operator.ready;
      await fixture.joined(roomId);
      const eventId = await fixture.anna.say(roomId, "start");
      assert.equal(await operator.ended, 1);
      assert.match(
        operator.lines.join("\n"),
        /\d fatal main: exited at once, and nothing more is written: RuntimeError: unreachable/,
      );
      assert.ok(operator.lines.every((line) => !line.includes(" main: stopped")));
      // An orderly shutdown would have moved the WAL into the database.
      assert.ok(Deno.statSync(join(fixture.store, "state.sqlite3-wal")).size > 0);

      // Everything written before the panic is intact: the next process does what is left to do, once.
      await using next = fixture.start();
      await next.ready;
      const isAnswered = () =>
        fixture.anna.messages(roomId).some(({ about, body }) => about === eventId && body.includes("is on")) ||
        undefined;
      await fixture.anna.until(isAnswered, PATIENCE_MS, () => "an answer");
      assert.deepEqual(fixture.effects, [1]);
      assert.equal(await next.stop(), 0);
    });
  }
});

Deno.test("an event at which the Rust crypto panics ends the operator twice, and is skipped then", async () => {
  await using fixture = await Fixture.open();
  const roomId = await fixture.invite();
  {
    await using operator = fixture.start();
    await operator.ready;
    await fixture.joined(roomId);
    assert.equal(await operator.stop(), 0);
  }
  const bad = await fixture.anna.say(roomId, "start");
  const good = await fixture.anna.say(roomId, "status");
  const environment = { PANIC_AT: "decrypting", PANIC_EVENT: bad };
  for (const _run of [1, 2]) {
    await using operator = fixture.start({ flags, environment });
    assert.equal(await operator.ended, 1);
    assert.match(operator.lines.join("\n"), /fatal main: .*RuntimeError: unreachable/);
  }
  await using operator = fixture.start({ flags, environment });
  await operator.ready;
  const isAnswered = () => fixture.anna.messages(roomId).some(({ about }) => about === good) || undefined;
  await fixture.anna.until(isAnswered, PATIENCE_MS, () => "an answer");
  assert.ok(operator.lines.some((line) => line.includes(`skipped ${bad}`)), operator.lines.join("\n"));
  assert.deepEqual(fixture.effects, []);
  assert.equal(await operator.stop(), 0);
});
