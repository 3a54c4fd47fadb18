import assert from "node:assert/strict";
import { type Check, type Finding, runChecks } from "../../lib/service/mod.ts";

/** A timer, a connection or a listener left behind fails the test. */
const leavesNothing = { sanitizeOps: true, sanitizeResources: true };

/** Runs checks and hands back the verdict and the lines. */
async function run(
  checks: Check[],
  changes: { colour?: boolean; deadlineMs?: number; graceMs?: number; signal?: AbortSignal } = {},
) {
  const lines: string[] = [];
  const print = (line: string) => lines.push(line);
  const signal = new AbortController().signal;
  return { ok: await runChecks(checks, { print, colour: false, signal, ...changes }), lines };
}

function check(name: string, finding: Finding | Error, needs?: string[]): Check {
  const run = () => finding instanceof Error ? Promise.reject(finding) : Promise.resolve(finding);
  return needs === undefined ? { name, run } : { name, run, needs };
}

Deno.test(
  "runChecks() prints each finding and its remedy, and returns whether none failed",
  leavesNothing,
  async (t) => {
    const well = check("configuration", { ok: true, message: "complete" });
    const rows: [name: string, checks: Check[], ok: boolean, lines: string[]][] = [
      ["passed", [well], true, ["✔ configuration  complete"]],
      [
        "failed with a remedy",
        [check("login", { ok: false, message: "wrong password", remedy: "set MATRIX_PASSWORD" }), well],
        false,
        ["✘ login          wrong password", "                 set MATRIX_PASSWORD", "✔ configuration  complete"],
      ],
      ["thrown", [check("login", new Error("two\nlines"))], false, ["✘ login  two lines"]],
      [
        "with what controls a terminal",
        [check("homeserver", {
          ok: false,
          message: "1.0\x1b[2K\r✔ homeserver:\n✔ login: \x9b1m\u202egood",
          remedy: "\x07",
        })],
        false,
        ["✘ homeserver  1.0�[2K ✔ homeserver: ✔ login: �1m�good", "              �"],
      ],
      ["skipped by itself", [check("store", { ok: "skipped", message: "no store" })], true, [
        "– store  skipped: no store",
      ]],
      [
        "skipped for want of another",
        [
          check("homeserver", new Error("refused")),
          check("login", new Error("never run"), ["homeserver"]),
          check("logout", new Error("never run"), ["login"]),
          check("store", { ok: true, message: "writable" }, []),
        ],
        false,
        [
          "✘ homeserver  refused",
          "– login       skipped: needs homeserver",
          "– logout      skipped: needs login",
          "✔ store       writable",
        ],
      ],
      [
        "a need met",
        [well, check("homeserver", { ok: true, message: "there" }, ["configuration"])],
        true,
        ["✔ configuration  complete", "✔ homeserver     there"],
      ],
    ];
    for (const [name, checks, ok, lines] of rows) {
      await t.step(name, async () => assert.deepEqual(await run(checks), { ok, lines }));
    }
  },
);

Deno.test("runChecks() colours only the marks", leavesNothing, async () => {
  const checks = [
    check("a", { ok: true, message: "x" }),
    check("b", new Error("y")),
    check("c", new Error("z"), ["b"]),
  ];
  const { lines } = await run(checks, { colour: true });
  assert.deepEqual(lines, ["\x1b[32m✔\x1b[0m a  x", "\x1b[31m✘\x1b[0m b  y", "\x1b[90m–\x1b[0m c  skipped: needs b"]);
});

Deno.test(
  "runChecks() ends a check that hangs at its deadline, and tells it by its signal",
  leavesNothing,
  async () => {
    const told = Promise.withResolvers<void>();
    const hanging: Check = {
      name: "homeserver",
      remedy: "fix it",
      address: () => "http://h",
      run: (signal) => {
        signal.addEventListener("abort", () => told.resolve());
        return new Promise(() => {});
      },
    };
    const checks = [hanging, check("store", { ok: true, message: "writable" })];
    const { ok, lines } = await run(checks, { deadlineMs: 5, graceMs: 5 });
    await told.promise;
    assert.equal(ok, false);
    assert.deepEqual(lines, [
      "✘ homeserver  no answer from http://h within 0.005 s",
      "              fix it",
      "✔ store       writable",
    ]);
  },
);

Deno.test("runChecks() lets a late check clean up", leavesNothing, async () => {
  const cleaned: string[] = [];
  const slow: Check = {
    name: "login",
    run: async (signal) => {
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      await new Promise((resolve) => setTimeout(resolve, 5)); // a logout takes its time
      cleaned.push("logged out");
      throw signal.reason;
    },
  };
  const { lines } = await run([slow], { deadlineMs: 5 });
  assert.deepEqual([lines, cleaned], [["✘ login  no answer within 0.005 s"], ["logged out"]]);
});

Deno.test("runChecks() ends when it is stopped, before and during a check", leavesNothing, async () => {
  const unheard = check("a", new Error("never run"));
  await assert.rejects(run([unheard], { signal: AbortSignal.abort(new Error("stop")) }), { message: "stop" });
  const controller = new AbortController();
  const hanging: Check = {
    name: "a",
    run: () => {
      controller.abort(new Error("stop"));
      return new Promise(() => {});
    },
  };
  await assert.rejects(run([hanging], { signal: controller.signal, graceMs: 5 }), { message: "stop" });
});
