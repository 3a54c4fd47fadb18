import assert from "node:assert/strict";
import { Place } from "./place.ts";

Deno.test("the crypto is not closed while it takes in what a sync has brought", async () => {
  await using place = await Place.open();
  const roomId = await place.invite();
  await using operator = place.start({
    flags: ["--preload", new URL("slow_receive.ts", import.meta.url).pathname],
  });
  await operator.ready;
  await place.joined(roomId);
  const receiving = Promise.withResolvers<void>();
  operator.onLine = (line) => line === "receiving" && receiving.resolve();
  operator.signal("SIGUSR2");
  await place.anna.say(roomId, "status");
  await receiving.promise;
  assert.equal(await operator.stop(), 0);
  const told = operator.lines.filter((line) => ["received", "closed"].includes(line));
  assert.deepEqual(told.slice(-2), ["received", "closed"]);
});

Deno.test("the operator ends with 2 where an agent has its own account, which a localpart alone doesn't tell", async () => {
  await using place = await Place.open();
  await using operator = place.start({ environment: { AGENTS: `clawdbot=${place.operatorId}` } });
  assert.equal(await operator.ended, 2);
  assert.match(operator.lines.join("\n"), /AGENTS: is the operator's own account \(got "@toggle:localhost"\)/);
});
