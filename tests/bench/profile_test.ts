import assert from "node:assert/strict";
import { sharesOf } from "../../bench/profile.ts";

Deno.test("sharesOf() sums up a profile by part of the program", () => {
  const root = "file:///project/";
  const frames: readonly (readonly [name: string, url: string, parent: number])[] = [
    ["(root)", "", 0],
    ["(idle)", "", 1],
    ["decide", `${root}lib/operator/decide.ts`, 1],
    ["run", `${root}lib/store/sqlite.ts`, 3],
    ["run", "", 4],
    ["wasm-function[7]", "wasm://wasm/0123", 1],
    ["put", "file:///cache/npm/registry.npmjs.org/prom-client/15.1.3/lib/put.js", 1],
    ["receive", "file:///cache/npm/registry.npmjs.org/@matrix-org/matrix-sdk-crypto-wasm/18.9.0/x.js", 1],
    ["(garbage collector)", "", 1],
    ["op_read", "", 3],
    ["fetch", "ext:deno_fetch/26_fetch.js", 1],
    ["main", `${root}main.ts`, 1],
  ];
  const nodes = frames.map(([functionName, url], index) => ({
    id: index + 1,
    callFrame: { functionName, url },
    children: frames.flatMap(([, , parent], child) => parent === index + 1 ? [child + 1] : []),
  }));
  const samples = [2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
  const profile = { nodes, startTime: 0, endTime: 0, samples, timeDeltas: samples.map((id) => id === 5 ? 9 : 1) };
  const shares = new Map(sharesOf(profile, root).map(({ part, share }) => [part, Math.round(share * 20)]));
  assert.deepEqual(
    shares,
    new Map([
      ["SQLite, with the disk", 9],
      ["idle", 2],
      ["lib/operator", 1],
      ["lib/store", 1],
      ["crypto (WebAssembly)", 1],
      ["prom-client", 1],
      ["@matrix-org/matrix-sdk-crypto-wasm", 1],
      ["garbage collection", 1],
      ["Deno's operations", 1],
      ["Deno's JavaScript", 1],
      ["main.ts", 1],
    ]),
  );
});
