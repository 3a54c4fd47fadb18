import assert from "node:assert/strict";
import fc from "fast-check";
import type { Forged } from "../../testbed/proxy.ts";
import { Forger } from "./forger.ts";
import { Members, Raw, render } from "./json.ts";
import { kubernetesGrammar } from "./kubernetes.ts";
import { matrixEndpoint, matrixError, matrixGrammar } from "./matrix.ts";

const world = {
  users: ["@toggle:localhost", "@anna:localhost"],
  rooms: ["!r:localhost"],
  devices: ["D"],
  events: ["$e"],
} as const;
const truth: Forged = { status: 200, headers: {}, body: '{"next_batch":"s1","rooms":{"join":{}}}', then: "end" };

async function answers(seed: number, only?: string[]): Promise<string[]> {
  const forger = new Forger(seed, false, only);
  forger.active = new Set(["sync"]);
  const { sync = fc.constant(null) } = matrixGrammar(world);
  const question = {
    endpoint: "sync",
    token: "s1",
    grammar: sync,
    error: matrixError,
    done: "never",
    streamed: false,
  } as const;
  for (let turn = 0; turn < 30; turn += 1) await forger.answer(question, () => Promise.resolve(truth));
  return forger.ring.map((change) => JSON.stringify(change));
}

Deno.test("the answers of a fuzz follow from its seed", async () => {
  const first = await answers(7);
  assert.ok(first.length > 10);
  assert.deepEqual(await answers(7), first);
  assert.notDeepEqual(await answers(8), first);
});

Deno.test("an answer can be had again by its name alone", async () => {
  const all = await answers(7);
  const [wanted = ""] = all.slice(-1);
  assert.deepEqual(await answers(7, [JSON.parse(wanted).name]), [wanted]);
});

Deno.test("an answer that comes after healing is the server's own, though it was asked for before", async () => {
  const forger = new Forger(7, false);
  const { sync = fc.constant(null) } = matrixGrammar(world);
  const question = { endpoint: "sync", token: "s1", grammar: sync, error: matrixError, streamed: false } as const;
  let asked = 0;
  for (let turn = 0; turn < 60; turn += 1) {
    forger.active = new Set(["sync"]);
    const before = asked;
    const answer = await forger.answer({ ...question, done: "never" }, () => {
      asked += 1;
      forger.active = new Set();
      return Promise.resolve(truth);
    });
    if (asked > before) assert.equal(answer, truth);
  }
  assert.ok(asked > 10);
});

Deno.test("render() makes JSON with names that repeat and text as it is", () => {
  const value = {
    list: [new Raw("1e999"), null, "\ud800"],
    twice: new Members([["a", 1], ["a", 2], ["__proto__", {}]]),
  };
  assert.equal(render(value), '{"list":[1e999,null,"\\ud800"],"twice":{"a":1,"a":2,"__proto__":{}}}');
});

Deno.test("every grammar makes JSON, and most of it by the specification", () => {
  const grammars = { ...matrixGrammar(world), ...kubernetesGrammar };
  for (const [endpoint, grammar] of Object.entries(grammars)) {
    const bodies = fc.sample(grammar, { seed: 1, numRuns: 40 });
    if (endpoint === "watch") assert.ok(bodies.every((lines) => typeof lines === "string"));
    else for (const body of bodies) JSON.parse(render(body));
  }
  const joins = fc.sample(grammars["sync"] ?? fc.constant(null), { seed: 1, numRuns: 100 }).map((body) =>
    JSON.parse(render(body))
  )
    .filter((sync) =>
      Object.values(sync?.rooms?.join ?? {}).some((room: unknown) =>
        Array.isArray((room as { timeline?: { events?: unknown } } | null)?.timeline?.events)
      )
    );
  assert.ok(joins.length > 20, `${joins.length} of 100 with a timeline`);
});

Deno.test("matrixEndpoint() knows every endpoint that has a grammar", () => {
  const paths = [
    ["GET", "/_matrix/client/v3/sync"],
    ["POST", "/_matrix/client/v3/keys/upload"],
    ["POST", "/_matrix/client/v3/keys/query"],
    ["POST", "/_matrix/client/v3/keys/claim"],
    ["PUT", "/_matrix/client/v3/sendToDevice/m.room.encrypted/t"],
    ["GET", "/_matrix/client/v3/rooms/!r/messages"],
    ["PUT", "/_matrix/client/v3/rooms/!r/send/m.room.encrypted/t"],
    ["POST", "/_matrix/client/v3/rooms/!r/join"],
    ["POST", "/_matrix/client/v3/rooms/!r/leave"],
    ["POST", "/_matrix/client/v3/login"],
    ["POST", "/_matrix/client/v3/logout"],
    ["GET", "/_matrix/client/v3/account/whoami"],
    ["GET", "/_matrix/client/v3/profile/@u/displayname"],
    ["GET", "/_matrix/client/v3/directory/room/%23a"],
    ["GET", "/_matrix/client/v3/user/@u/account_data/m.x"],
    ["POST", "/_matrix/client/v3/keys/device_signing/upload"],
    ["POST", "/_matrix/client/v3/keys/signatures/upload"],
    ["GET", "/_matrix/client/versions"],
    ["GET", "/.well-known/matrix/client"],
  ];
  const known = paths.map(([method = "", path = ""]) => matrixEndpoint(method, path));
  assert.deepEqual(known.toSorted(), Object.keys(matrixGrammar(world)).toSorted());
});
