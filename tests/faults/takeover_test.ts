import assert from "node:assert/strict";
import { join } from "node:path";
import { DATABASE, DEVICE, leaveOldStore } from "../takeover/old.ts";
import { Fixture } from "./fixture.ts";

const asides = [`${DATABASE}.aside`, "session.json.aside"];

Deno.test("a store of the Python operator that cannot be read stops the start, until it is told to begin anew", async () => {
  await using fixture = await Fixture.open();
  const { homeserver, operatorId, store } = fixture;
  Deno.mkdirSync(store);
  leaveOldStore(store, "libolm", "a token");
  Deno.truncateSync(join(store, DATABASE), 9_000);
  const before = Deno.readFileSync(join(store, DATABASE));
  const asked = () => homeserver.requests.entries.filter(({ userId }) => userId === operatorId).length;
  {
    await using stopped = fixture.start();
    assert.equal(await stopped.ended, 1);
    const [said = "", ...more] = stopped.lines.filter((line) => line.includes("error"));
    assert.deepEqual(more, []);
    assert.match(said, /Cannot take over the Python operator's store: .*OLDDEVICE\.db: .*--fresh-device/);
    assert.equal(asked(), 0);
    assert.deepEqual(Deno.readFileSync(join(store, DATABASE)), before);
  }
  for (const run of ["first", "second"]) {
    await using operator = fixture.start({ args: ["--fresh-device"] });
    await operator.ready;
    assert.doesNotMatch(operator.lines.join("\n"), /took over/);
    const answer = await fixture.anna.api.request("POST", "/keys/query", { device_keys: { [operatorId]: [] } });
    const devices = Object.keys((answer["device_keys"] as Record<string, object>)[operatorId] ?? {});
    assert.equal(devices.length, 1, `a new device in its ${run} life`);
    assert.notEqual(devices[0], DEVICE);
    const old = Array.from(Deno.readDirSync(store), ({ name }) => name).filter((name) => /^@|session/.test(name))
      .sort();
    assert.deepEqual(old, asides);
    assert.equal(await operator.stop(), 0);
  }
});
