import { Homeserver } from "../../sandbox/homeserver/mod.ts";
import { homeserverContract, World } from "./homeserver.ts";
import { refreshableMs, sandboxHomeserver } from "./homeserver_sandbox.ts";

Deno.test("The sandbox homeserver keeps the contract", async (t) => {
  await using homeserver = new Homeserver({ refreshableMs });
  for (const { name, run } of homeserverContract) {
    await t.step(name, () => run(new World(sandboxHomeserver(homeserver))));
  }
});
