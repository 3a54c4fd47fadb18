import assert from "node:assert/strict";
import { Shutdown } from "../../lib/service/mod.ts";

/** A timer, a connection or a listener left behind fails the test. */
const leavesNothing = { sanitizeOps: true, sanitizeResources: true };

/** A process whose signals the test sends, and whose exits it keeps. */
function testProcess() {
  const handlers = new Map<string, () => void>();
  const exits: [code: number, reason: string][] = [];
  const exited = Promise.withResolvers<void>();
  const clock = { nowMs: 0 };
  return {
    clock,
    now: () => clock.nowMs,
    exits,
    exited: exited.promise,
    listening: () => [...handlers.keys()],
    send: (name: string) => handlers.get(name)?.(),
    onSignal(name: string, handler: () => void) {
      handlers.set(name, handler);
      return () => void handlers.delete(name);
    },
    exit(code: number, reason: string) {
      exits.push([code, reason]);
      exited.resolve();
    },
  };
}

Deno.test("Shutdown begins the end at the first signal, of either name", leavesNothing, async (t) => {
  for (const name of ["SIGTERM", "SIGINT"]) {
    await t.step(name, () => {
      const process = testProcess();
      using shutdown = new Shutdown(process);
      assert.equal(shutdown.stopping.aborted, false);
      process.send(name);
      assert.equal(shutdown.stopping.aborted, true);
      assert.match(String(shutdown.stopping.reason), new RegExp(`Stopping: ${name}`));
      assert.deepEqual(process.exits, []);
    });
  }
});

Deno.test("Shutdown exits at once at a second signal", leavesNothing, () => {
  const process = testProcess();
  using _ = new Shutdown(process);
  process.send("SIGTERM");
  process.send("SIGINT");
  assert.deepEqual(process.exits, [[1, "SIGINT while stopping"]]);
});

Deno.test("Shutdown takes a signal that is delivered twice at once for one", leavesNothing, async (t) => {
  const rows: [apartMs: number, exits: number][] = [[499, 0], [500, 1]];
  for (const [apartMs, exits] of rows) {
    await t.step(`${apartMs} ms apart: ${exits === 0 ? "one" : "two"}`, () => {
      const process = testProcess();
      using _ = new Shutdown(process);
      process.send("SIGINT");
      process.clock.nowMs += apartMs;
      process.send("SIGINT");
      assert.equal(process.exits.length, exits);
    });
  }
});

Deno.test("Shutdown exits at the deadline", leavesNothing, async () => {
  const process = testProcess();
  using _ = new Shutdown(process, 5);
  process.send("SIGTERM");
  await process.exited;
  assert.deepEqual(process.exits, [[1, "not stopped 0.005 s after SIGTERM"]]);
});

Deno.test("Shutdown.stop() begins the end once", leavesNothing, () => {
  const process = testProcess();
  using shutdown = new Shutdown(process);
  shutdown.stop("the store failed");
  shutdown.stop("again");
  assert.match(String(shutdown.stopping.reason), /the store failed/);
  process.send("SIGTERM");
  assert.deepEqual(process.exits, [[1, "SIGTERM while stopping"]]);
});

Deno.test("Shutdown listens no longer once disposed of", () => {
  const process = testProcess();
  const shutdown = new Shutdown(process);
  assert.deepEqual(process.listening(), ["SIGTERM", "SIGINT"]);
  shutdown[Symbol.dispose]();
  assert.deepEqual(process.listening(), []);
});
