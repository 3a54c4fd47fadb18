import assert from "node:assert/strict";
import { resultTable } from "./e2e/side_by_side.ts";

const at = "2026-11-27T14:00:00.000Z";

Deno.test("resultTable() shows each case once, with a column for each homeserver, and why one isn't there", () => {
  const table = resultTable(
    new Map([
      ["synapse", [{ suite: "kills", at, cases: [{ name: "one", outcome: "passed" }] }, {
        suite: "logins",
        at,
        cases: [{ name: "locked", outcome: "passed" }],
      }]],
      ["dendrite", [{
        suite: "kills",
        at,
        cases: [{ name: "one", outcome: "failed" }, { name: "two", outcome: "passed" }],
      }, { suite: "logins", at, cases: [{ name: "locked", outcome: "not there", why: "it has none" }] }]],
    ]),
  );
  assert.equal(
    table,
    `synapse   dendrite  case

                    kills
✔         ✘           one
          ✔           two

                    logins
✔         –           locked

– locked: it has none

synapse: 2 passed, 0 failed, 0 not there
dendrite: 1 passed, 1 failed, 1 not there`,
  );
});
