import { Homeserver } from "../../sandbox/homeserver/mod.ts";
import { homeserverContract, World } from "./homeserver.ts";
import { refreshableMs, SandboxClock, sandboxHomeserver } from "./homeserver_sandbox.ts";

Deno.test("The sandbox homeserver keeps the contract", async (t) => {
  const clock = new SandboxClock();
  await using homeserver = new Homeserver({ refreshableMs, now: clock.now });
  for (const { name, run } of homeserverContract) {
    await t.step(name, () => run(new World(sandboxHomeserver(homeserver, clock))));
  }
});
