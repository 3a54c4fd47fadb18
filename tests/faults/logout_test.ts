import assert from "node:assert/strict";
import { Fixture, PATIENCE_MS } from "./fixture.ts";

Deno.test("logins that end again and again, with health in between, are no failures in a row", async () => {
  await using fixture = await Fixture.open();
  const roomId = await fixture.invite();
  await using operator = fixture.start({
    flags: ["--preload", new URL("fast_clock.ts", import.meta.url).pathname],
    environment: { MAX_RETRIES: "2" },
  });
  await operator.ready;
  await fixture.joined(roomId);
  const device = /logged in as .*, device (\w+)/.exec(operator.lines.join("\n"))?.[1] ?? assert.fail();
  for (let logout = 1; logout <= 4; logout += 1) {
    // With the fast clock, more than the required three minutes of health pass with each command.
    for (const _ of [1, 2]) {
      const eventId = await fixture.anna.say(roomId, "status");
      const isAnswered = () => fixture.anna.messages(roomId).some(({ about }) => about === eventId) || undefined;
      await fixture.anna.until(isAnswered, PATIENCE_MS, () => `an answer after logout ${logout - 1}`);
    }
    fixture.homeserver.attacks.revokeTokens(fixture.operatorId, device, true);
  }
  assert.equal(operator.lines.filter((line) => line.includes("logging in again")).length >= 3, true);
  assert.equal(await operator.stop(), 0);
});
