/** A sync that dies, as /healthz, /readyz and /metrics tell it: a real session, a real server, and a clock of ours. */

import assert from "node:assert/strict";
import { Health, Metrics, serveHealth } from "../../lib/service/mod.ts";
import type { HomeserverRetryOptions } from "../../lib/session/mod.ts";
import { operatorPolicy } from "../../lib/async.ts";
import { World } from "../session/world.ts";

Deno.test("health, readiness and metrics follow a sync that dies and comes back", async () => {
  await using world = new World();
  const alice = await world.person("alice");
  await using running = await world.open();
  let nowMs = 0;
  const health = new Health(() => nowMs);
  const metrics = await Metrics.open("1.2.3", () => health.syncAgeMs);
  await using server = await serveHealth({ hostname: "127.0.0.1", port: 0 }, health, metrics);
  const ask = async (path: string) => {
    const response = await fetch(`http://127.0.0.1:${server.port}/${path}`);
    return [response.status, (await response.text()).trim()] as const;
  };
  const table: string[] = [];
  const look = async (what: string, expected: readonly [healthz: number, readyz: number, ageSeconds: number]) => {
    const [[healthz], [readyz, why], [, text]] = await Promise.all([ask("healthz"), ask("readyz"), ask("metrics")]);
    const value = (name: string) => Number(new RegExp(`^openclaw_toggle_${name} (.*)$`, "m").exec(text)?.[1]);
    const [age, retries] = [value("sync_age_seconds"), value("retries_total")];
    table.push(`${what.padEnd(48)} ${healthz}      ${readyz}     ${String(age).padStart(4)} s    ${retries}   ${why}`);
    assert.deepEqual([healthz, readyz, age], expected, what);
  };

  let synced = Promise.withResolvers<void>();
  let failed = Promise.withResolvers<void>();
  const goOn = Promise.withResolvers<void>();
  const retrying: HomeserverRetryOptions = {
    policy: operatorPolicy(20),
    onWait: () => {
      health.backingOff(15_000);
      metrics.retried();
      failed.resolve();
    },
    sleep: () => goOn.promise,
  };
  const end = new AbortController();
  const nothing = () => {};
  const ended = running.session.run(
    {
      ...{ eventsArrived: nothing, keyArrived: nothing, roomsChanged: nothing, devicesChanged: nothing },
      ...{ verificationAsked: nothing, agentRoomsActive: nothing, refused: nothing, historyCutOff: () => true },
    },
    () => {
      health.synced();
      synced.resolve();
    },
    retrying,
    end.signal,
  ).catch((error) => assert.equal(error, end.signal.reason));
  const nextSync = async (after: () => unknown) => {
    synced = Promise.withResolvers();
    await after();
    await synced.promise;
  };
  // A sync is answered when there is something to tell.
  const invite = () => alice.createRoom(["@toggle:localhost"]);
  await synced.promise;
  health.ready();
  await look("syncing", [200, 200, 0]);

  // What is under way is answered once more; the next one never is.
  const path = /sync$/;
  let fault = world.homeserver.fault({ path, userId: "@toggle:localhost", delayMs: Infinity });
  await nextSync(invite);
  await look("the homeserver has stopped to answer syncs", [200, 200, 0]);
  nowMs += 90_000;
  await look("90 s later", [200, 200, 90]);
  nowMs += 1_000;
  await look("91 s later: no longer fresh", [200, 503, 91]);
  nowMs += 90_000;
  await look("181 s later: nothing moves", [503, 503, 181]);
  await nextSync(() => {
    fault[Symbol.dispose]();
    return invite();
  });
  await look("it answers again", [200, 200, 0]);

  failed = Promise.withResolvers();
  fault = world.homeserver.fault({ path, userId: "@toggle:localhost", answer: { status: 502 } });
  await nextSync(invite);
  await failed.promise;
  nowMs += 190_000;
  await look("it answers 502 for 190 s: backing off", [200, 503, 190]);
  await nextSync(() => {
    fault[Symbol.dispose]();
    goOn.resolve();
    return invite();
  });
  await look("it answers again", [200, 200, 0]);
  health.kubernetesAnswers = false;
  await look("the Kubernetes API does not", [200, 503, 0]);

  end.abort();
  await ended;
  console.log(`${"".padEnd(48)} healthz  readyz  sync age  retries\n${table.join("\n")}`);
});
