/**
 * Holds the house to its plan: who may import whom, through which doors, and who touches the process.
 *
 * @module
 */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";

/** The project's folder. */
const root = new URL("../", import.meta.url);

/** One file imports another. Paths are relative to the project's folder; packages keep their `npm:` or `node:`. */
interface Edge {
  readonly from: string;
  readonly to: string;
  /** Only types are imported: nothing of it is there at run time. */
  readonly typeOnly: boolean;
}

/** Which rooms a room may import; every room may import {@linkcode shared}, `store` all of it but `http`. */
const may: Readonly<Record<string, { readonly all: readonly string[]; readonly types: readonly string[] }>> = {
  store: { all: [], types: [] },
  // The words of commands are no names for anything else; and durations are written alike everywhere.
  config: { all: ["commands"], types: ["scaler"] },
  // Sentences about a workload are made of its counts and problems.
  commands: { all: [], types: ["scaler"] },
  authorization: { all: [], types: ["commands", "config", "session", "store"] },
  operator: { all: ["authorization", "commands"], types: ["config", "scaler", "session", "store"] },
  session: { all: ["store"], types: ["config"] },
  takeover: { all: ["store"], types: [] },
  scaler: { all: [], types: [] },
  service: { all: [], types: ["config"] },
  maintenance: { all: ["config", "service", "session"], types: [] },
};

/** Files that belong to no room. */
const shared = ["async", "errors", "http", "json"].map((name) => `lib/${name}.ts`);

const entries = ["main.ts", "conntest.ts"];

/** What is wrong with one import; undefined if nothing is. */
function wrongWith({ from, to, typeOnly }: Edge): string | undefined {
  const [fromTop = "", fromRoom = ""] = from.split("/");
  const [toTop = "", toRoom = ""] = to.split("/");
  if (/^(npm|node):/.test(to)) return undefined;
  if (/^[a-z]+:/.test(to)) return "neither ours nor an npm package";
  if (fromTop === "sandbox" || fromTop === "testbed") {
    return toTop === "lib" || entries.includes(to) ? `${fromTop} knows nothing of ours` : undefined;
  }
  if (fromTop === "lib" && toTop !== "lib") return "lib imports only lib";
  if (toTop !== "lib" || (fromTop === "lib" && fromRoom === toRoom)) return undefined;
  if (shared.includes(to)) {
    return fromRoom === "store" && to === "lib/http.ts" ? "store may not import http" : undefined;
  }
  if (shared.includes(from)) return `${from} imports only its like`;
  if (to !== `lib/${toRoom}/mod.ts`) return `not the door of ${toRoom}`;
  if (fromTop !== "lib") return undefined;
  const permitted = may[fromRoom];
  if (permitted === undefined) return `no rule for ${fromRoom}: give it one in this test`;
  if (permitted.all.includes(toRoom)) return undefined;
  if (!permitted.types.includes(toRoom)) return `${fromRoom} may not import ${toRoom}`;
  return typeOnly ? undefined : `${fromRoom} may import only types of ${toRoom}`;
}

function wrongImports(edges: readonly Edge[]): string[] {
  return edges.flatMap((edge) => {
    const wrong = wrongWith(edge);
    return wrong === undefined ? [] : [`${edge.from} imports ${edge.to}: ${wrong}`];
  });
}

/** Groups of files that import each other, directly or by way of others, types included. */
function cycles(edges: readonly Edge[]): string[][] {
  const imported = Map.groupBy(edges.filter(({ to }) => to.endsWith(".ts")), ({ from }) => from);
  const reachable = (start: string): Set<string> => {
    const seen = new Set<string>();
    const open = [start];
    for (let file = open.pop(); file !== undefined; file = open.pop()) {
      for (const { to } of imported.get(file) ?? []) {
        if (seen.has(to)) continue;
        seen.add(to);
        open.push(to);
      }
    }
    return seen;
  };
  const reached = new Map([...imported.keys()].map((file) => [file, reachable(file)]));
  const groups = [...reached].filter(([file, others]) => others.has(file))
    .map(([file, others]) => [...others].filter((other) => reached.get(other)?.has(file)).sort());
  return [...new Map(groups.map((group) => [group.join(), group])).values()];
}

/** Where a text reaches for the process: its arguments, environment, signals or end. Comments don't count. */
function reachesForProcess(text: string): string[] {
  const code = text.replace(/\/\*[^]*?\*\//g, "").replace(/(^|\s)\/\/.*$/gm, "");
  const patterns = [
    /\bDeno\s*(?:\?\.|\.|\[\s*["'`])\s*(?:args|env|addSignalListener|removeSignalListener|exit|exitCode)\b/g,
    /\bprocess\s*\.\s*(?:argv|env|exit|exitCode|on|once|kill|abort)\b/g,
    /\bfrom\s*["'](?:node:)?process["']/g,
    /\}\s*=\s*(?:globalThis\s*\.\s*)?(?:Deno|process)\b/g,
  ];
  return patterns.flatMap((pattern) => code.match(pattern) ?? []);
}

/** TypeScript files in a folder and below it, as paths relative to the project's folder. */
function sources(folder: string): string[] {
  return [...Deno.readDirSync(new URL(`${folder}/`, root))].flatMap(({ name, isDirectory }) => {
    const path = `${folder}/${name}`;
    return isDirectory ? sources(path) : name.endsWith(".ts") ? [path] : [];
  });
}

/** Every import of every source, as `deno info` sees it. */
async function imports(): Promise<Edge[]> {
  const files = [...entries, ...["lib", "sandbox", "testbed"].flatMap(sources)];
  const folder = await Deno.makeTempDir();
  try {
    const all = `${folder}/all.ts`;
    await Deno.writeTextFile(
      all,
      files.map((file) => `import ${JSON.stringify(new URL(file, root).href)};\n`).join(""),
    );
    const config = fileURLToPath(new URL("deno.json", root));
    const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["info", "--json", "--no-npm", "--no-remote", "--no-lock", "--config", config, all],
    }).output();
    assert.ok(success, new TextDecoder().decode(stderr));
    const graph: Graph = JSON.parse(new TextDecoder().decode(stdout));
    return edgesOf(graph).filter(({ from }) => files.includes(from));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** What we read of the answer of `deno info --json`. */
interface Graph {
  readonly modules: readonly {
    readonly specifier: string;
    readonly error?: string;
    readonly dependencies?: readonly {
      readonly specifier: string;
      readonly code?: { readonly specifier?: string; readonly error?: string };
      readonly type?: { readonly specifier?: string; readonly error?: string };
    }[];
  }[];
}

function edgesOf({ modules }: Graph): Edge[] {
  return modules.flatMap(({ specifier, error, dependencies = [] }) => {
    // Packages are not loaded, so that this needs no network, and are told as errors: only ours have to be there.
    if (specifier.startsWith(root.href)) assert.equal(error, undefined, `${specifier}: ${error}`);
    return dependencies.map(({ specifier: written, code, type }) => ({
      from: ours(specifier),
      to: ours(code?.specifier ?? type?.specifier ?? written),
      typeOnly: code === undefined,
    }));
  });
}

function ours(specifier: string): string {
  return specifier.startsWith(root.href) ? specifier.slice(root.href.length) : specifier;
}

Deno.test("imports keep to the plan", async () => {
  const edges = await imports();
  assert.ok(edges.some(({ from }) => from === "main.ts"), "deno info shows no imports");
  assert.deepEqual(wrongImports(edges), []);
});

Deno.test("no files import each other in a circle, types included", async () => {
  assert.deepEqual(cycles(await imports()), []);
});

Deno.test("pure modules import only types and pure modules", async () => {
  const operator = ["decide", "decide_idle", "decide_schedule", "decision", "rollout_end", "schedule"].map((name) =>
    `lib/operator/${name}.ts`
  );
  const pure = [...operator, "lib/authorization/policy.ts"];
  const edges = (await imports()).filter(({ from }) => pure.includes(from));
  assert.deepEqual(pure.filter((file) => !edges.some(({ from }) => from === file)), []);
  assert.deepEqual(edges.filter(({ to, typeOnly }) => !typeOnly && !pure.includes(to)), []);
});

Deno.test("no file in lib reaches for arguments, environment, signals or the end of the process", async () => {
  const reaching = await Promise.all(
    sources("lib").map(async (file) => {
      const text = await Deno.readTextFile(new URL(file, root));
      return reachesForProcess(text).map((found) => `${file}: ${found}`);
    }),
  );
  assert.deepEqual(reaching.flat(), []);
});

Deno.test("every room has a door and a rule", () => {
  const files = sources("lib").filter((file) => !shared.includes(file));
  const rooms = [...new Set(files.map((file) => file.split("/")[1] ?? ""))];
  assert.deepEqual(rooms.filter((room) => !files.includes(`lib/${room}/mod.ts`)), []);
  assert.deepEqual(rooms.filter((room) => may[room] === undefined), []);
});

Deno.test("wrongImports() permits what the plan permits", async (t) => {
  const rows: [from: string, to: string, typeOnly?: boolean][] = [
    ["main.ts", "lib/session/mod.ts"],
    ["main.ts", "conntest.ts"],
    ["main.ts", "deno.json"],
    ["conntest.ts", "lib/scaler/mod.ts"],
    ["lib/store/mod.ts", "lib/store/indexeddb/mod.ts"],
    ["lib/store/sqlite.ts", "node:sqlite"],
    ["lib/session/login.ts", "lib/store/mod.ts"],
    ["lib/session/login.ts", "lib/errors.ts"],
    ["lib/store/mod.ts", "lib/errors.ts"],
    ["lib/operator/mod.ts", "lib/session/mod.ts", true],
    ["lib/session/login.ts", "lib/config/mod.ts", true],
    ["lib/operator/queue.ts", "lib/commands/mod.ts"],
    ["lib/operator/queue.ts", "lib/config/mod.ts", true],
    ["lib/commands/answers.ts", "lib/scaler/mod.ts", true],
    ["lib/scaler/types.ts", "npm:@kubernetes/client-node@2.0.1"],
    ["sandbox/mod.ts", "sandbox/person/mod.ts"],
  ];
  for (const [from, to, typeOnly = false] of rows) {
    await t.step(`${from} → ${to}`, () => assert.deepEqual(wrongImports([{ from, to, typeOnly }]), []));
  }
});

Deno.test("wrongImports() names what the plan forbids", async (t) => {
  const rows: [from: string, to: string, wrong: string, typeOnly?: boolean][] = [
    ["main.ts", "lib/session/sync_response.ts", "not the door of session"],
    ["conntest.ts", "lib/config/secret.ts", "not the door of config", true],
    ["lib/session/sync_response.ts", "lib/store/sqlite.ts", "not the door of store"],
    ["lib/session/sync_response.ts", "lib/store/indexeddb/mod.ts", "not the door of store"],
    ["lib/operator/mod.ts", "lib/session/mod.ts", "operator may import only types of session"],
    ["lib/operator/mod.ts", "lib/scaler/mod.ts", "operator may import only types of scaler"],
    ["lib/operator/mod.ts", "lib/takeover/mod.ts", "operator may not import takeover"],
    ["lib/operator/mod.ts", "lib/config/mod.ts", "operator may import only types of config"],
    ["lib/session/mod.ts", "lib/config/mod.ts", "session may import only types of config"],
    ["lib/session/mod.ts", "lib/scaler/mod.ts", "session may not import scaler"],
    ["lib/session/mod.ts", "lib/operator/mod.ts", "session may not import operator", true],
    ["lib/scaler/mod.ts", "lib/session/mod.ts", "scaler may not import session"],
    ["lib/scaler/mod.ts", "lib/operator/mod.ts", "scaler may not import operator", true],
    ["lib/commands/mod.ts", "lib/scaler/mod.ts", "commands may import only types of scaler"],
    ["lib/store/mod.ts", "lib/http.ts", "store may not import http"],
    ["lib/errors.ts", "lib/config/mod.ts", "lib/errors.ts imports only its like"],
    ["lib/service/mod.ts", "lib/config/mod.ts", "service may import only types of config"],
    ["lib/attic/mod.ts", "lib/store/mod.ts", "no rule for attic: give it one in this test"],
    ["lib/session/mod.ts", "sandbox/mod.ts", "lib imports only lib"],
    ["lib/session/mod.ts", "testbed/mod.ts", "lib imports only lib"],
    ["lib/config/mod.ts", "main.ts", "lib imports only lib"],
    ["sandbox/mod.ts", "lib/errors.ts", "sandbox knows nothing of ours", true],
    ["testbed/mod.ts", "lib/operator/ports.ts", "testbed knows nothing of ours"],
    ["testbed/mod.ts", "main.ts", "testbed knows nothing of ours"],
    ["lib/config/mod.ts", "https://example.org/mod.ts", "neither ours nor an npm package"],
    ["main.ts", "jsr:@std/async", "neither ours nor an npm package"],
  ];
  for (const [from, to, wrong, typeOnly = false] of rows) {
    await t.step(`${from} → ${to}`, () => {
      assert.deepEqual(wrongImports([{ from, to, typeOnly }]), [`${from} imports ${to}: ${wrong}`]);
    });
  }
});

Deno.test("cycles() finds each circle once, also one of types", () => {
  const edges = ["a>b", "b>c", "c>b", "c>d", "e>e"].map((edge) => {
    const [from = "", to = ""] = edge.split(">").map((name) => `lib/x/${name}.ts`);
    return { from, to, typeOnly: from < to };
  });
  assert.deepEqual(cycles(edges), [["lib/x/b.ts", "lib/x/c.ts"], ["lib/x/e.ts"]]);
  assert.deepEqual(cycles(edges.filter(({ from, to }) => from < to)), []);
});

Deno.test("edgesOf() distinguishes type imports", () => {
  const [specifier, a, b] = ["lib/session/mod.ts", "lib/a/mod.ts", "lib/b/mod.ts"].map((path) => root.href + path);
  assert.ok(specifier && a && b);
  const dependencies = [
    { specifier: "../a/mod.ts", code: { specifier: a } },
    { specifier: "../b/mod.ts", type: { specifier: b } },
    { specifier: "node:fs", code: { specifier: "node:fs" } },
  ];
  assert.deepEqual(edgesOf({ modules: [{ specifier, dependencies }] }), [
    { from: "lib/session/mod.ts", to: "lib/a/mod.ts", typeOnly: false },
    { from: "lib/session/mod.ts", to: "lib/b/mod.ts", typeOnly: true },
    { from: "lib/session/mod.ts", to: "node:fs", typeOnly: false },
  ]);
});

Deno.test("reachesForProcess() finds every access, and ignores comments", async (t) => {
  const rows: [text: string, found: number][] = [
    ["const a = Deno.args;", 1],
    ["Deno.env.get('X')", 1],
    ["Deno\n  .exit(1)", 1],
    ['Deno["env"].toObject()', 1],
    ["Deno?.addSignalListener('SIGTERM', f)", 1],
    ["const { env } = Deno;", 1],
    ["const { exit } = globalThis.Deno;", 1],
    ["process.exit(1); process.env.X", 2],
    ['import { env } from "node:process"; const url = "http://h"; Deno.exit(); // Deno.exit', 2],
    ["/** Deno.exit is main's. */ // so is Deno.env", 0],
    ["Deno.serve({}); Deno.environment; this.process.exiting", 0],
  ];
  for (const [text, found] of rows) {
    await t.step(text, () => assert.equal(reachesForProcess(text).length, found));
  }
});
