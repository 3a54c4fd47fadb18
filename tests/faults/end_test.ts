import assert from "node:assert/strict";
import { Fixture } from "./fixture.ts";

Deno.test("the crypto isn't closed while it processes a sync response", async () => {
  await using fixture = await Fixture.open();
  const roomId = await fixture.invite();
  await using operator = fixture.start({
    flags: ["--preload", new URL("slow_receive.ts", import.meta.url).pathname],
  });
  await operator.ready;
  await fixture.joined(roomId);
  const receiving = Promise.withResolvers<void>();
  operator.onLine = (line) => line === "receiving" && receiving.resolve();
  operator.signal("SIGUSR2");
  await fixture.anna.say(roomId, "status");
  await receiving.promise;
  assert.equal(await operator.stop(), 0);
  const told = operator.lines.filter((line) => ["received", "closed"].includes(line));
  assert.deepEqual(told.slice(-2), ["received", "closed"]);
});

Deno.test("the operator exits with 2 if an agent has its own account, which a localpart alone doesn't show", async () => {
  await using fixture = await Fixture.open();
  await using operator = fixture.start({ environment: { AGENTS: `clawdbot=${fixture.operatorId}` } });
  assert.equal(await operator.ended, 2);
  assert.match(operator.lines.join("\n"), /AGENTS: is the operator's own account \(got "@toggle:localhost"\)/);
});
