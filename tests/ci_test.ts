import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";

const root = new URL("../", import.meta.url);
const text = new TextDecoder();

/** A folder that is gone afterwards. */
class Folder implements Disposable {
  readonly path: string = Deno.makeTempDirSync();

  write(name: string, content: string, mode = 0o644): void {
    const path = `${this.path}/${name}`;
    Deno.mkdirSync(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    Deno.writeTextFileSync(path, content, { mode });
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.path, { recursive: true });
  }
}

/** What a step printed and its exit code; undefined if it did not run. */
type Step = readonly [log: string, status: number] | undefined;

const passed: Step = ["running 2 tests\n\nok | 12 passed (3 steps) | 0 failed (123ms)\n\n", 0];

Deno.test("summary.sh adds up what ran, and counts what did not as failed", async (t) => {
  const rows: [name: string, test: Step, ok: Step, e2e: Step, lastLines: string[]][] = [
    ["all passed", passed, passed, ["\x1b[0m\x1b[32mok\x1b[0m | 1 passed | 0 failed \x1b[38;5;245m(1s)\x1b[0m\n", 0], [
      "test: 12 passed, 0 failed",
      "ok: passed",
      "e2e: 1 passed, 0 failed",
      "13 passed, 0 failed",
    ]],
    ["several summaries in one suite", [`${passed[0]}${passed[0]}`, 0], passed, passed, ["36 passed, 0 failed"]],
    ["a test failed", ["FAILED | 11 passed (2 steps) | 1 failed (1 step) (9ms)\n", 1], passed, passed, [
      "test: 11 passed, 1 failed",
      "ok: passed",
      "e2e: 12 passed, 0 failed",
      "23 passed, 1 failed",
    ]],
    ["a suite was skipped", passed, passed, undefined, [
      "e2e: 0 passed, 1 failed (did not run)",
      "12 passed, 1 failed",
    ]],
    ["a suite printed no summary", passed, passed, ["nothing to do\n", 0], [
      "e2e: 0 passed, 1 failed (ran no tests)",
      "12 passed, 1 failed",
    ]],
    ["a suite ran no tests", passed, passed, ["ok | 0 passed | 0 failed (0ms)\n", 0], [
      "e2e: 0 passed, 1 failed (ran no tests)",
      "12 passed, 1 failed",
    ]],
    ["a test was ignored", ["ok | 3 passed | 0 failed | 2 ignored (1ms)\n", 0], passed, passed, [
      "test: 3 passed, 1 failed (left out 2)",
      "ok: passed",
      "e2e: 12 passed, 0 failed",
      "15 passed, 1 failed",
    ]],
    ["only a step was ignored", passed, passed, ["ok | 3 passed (1 step) | 0 failed | 0 ignored (1 step) (1ms)\n", 0], [
      "e2e: 3 passed, 1 failed (left out 1)",
      "15 passed, 1 failed",
    ]],
    ["tests were filtered out", passed, passed, ["ok | 3 passed | 0 failed | 9 filtered out (1ms)\n", 0], [
      "e2e: 3 passed, 1 failed (left out 9)",
      "15 passed, 1 failed",
    ]],
    ["a suite crashed after its tests", passed, passed, ["ok | 3 passed | 0 failed (1ms)\npanic\n", 134], [
      "e2e: 3 passed, 1 failed (ended with 134)",
      "15 passed, 1 failed",
    ]],
    ["a suite took too long", passed, passed, ["ok | 3 passed | 0 failed (1ms)\n", 124], [
      "e2e: 3 passed, 1 failed (took too long)",
      "15 passed, 1 failed",
    ]],
    ["a suite took too long, and a test failed", passed, passed, ["FAILED | 3 passed | 2 failed (1ms)\n", 124], [
      "e2e: 3 passed, 3 failed (took too long)",
      "15 passed, 3 failed",
    ]],
    ["the gate took too long", passed, ["checking\n", 124], passed, [
      "ok: took too long",
      "e2e: 12 passed, 0 failed",
      "24 passed, 1 failed",
    ]],
    ["the gate failed", passed, ["error: not formatted\n", 1], passed, [
      "ok: ended with 1",
      "e2e: 12 passed, 0 failed",
      "24 passed, 1 failed",
    ]],
    ["the gate failed in its tests", passed, ["FAILED | 11 passed | 1 failed (9ms)\n", 1], passed, [
      "ok: 1 failed",
      "e2e: 12 passed, 0 failed",
      "24 passed, 1 failed",
    ]],
    ["nothing ran", undefined, undefined, undefined, [
      "test: 0 passed, 1 failed (did not run)",
      "ok: did not run",
      "e2e: 0 passed, 1 failed (did not run)",
      "0 passed, 3 failed",
    ]],
  ];
  for (const [name, test, ok, e2e, lastLines] of rows) {
    await t.step(name, async () => {
      using folder = new Folder();
      for (const [step, ran] of Object.entries({ test, ok, e2e })) {
        if (ran === undefined) continue;
        folder.write(`${step}.log`, ran[0]);
        folder.write(`${step}.status`, `${ran[1]}\n`);
      }
      const { code, stdout } = await new Deno.Command("sh", {
        args: [fileURLToPath(new URL(".ci/summary.sh", root)), folder.path, "suite:test", "gate:ok", "suite:e2e"],
      }).output();
      const lines = text.decode(stdout).trimEnd().split("\n");
      assert.deepEqual(lines.slice(-lastLines.length), lastLines);
      assert.equal(code, lastLines.at(-1)?.endsWith(" 0 failed") ? 0 : 1);
    });
  }
});

Deno.test("summary.sh names the tests that failed, and why", async () => {
  using folder = new Folder();
  const colour = (text: string) => `\x1b[0m\x1b[31m${text}\x1b[0m`;
  const log = [
    "a ... ok (1ms)",
    " ERRORS ",
    "",
    `a thing holds => ${colour("./tests/thing_test.ts:27:6")}`,
    `${colour("error")}: AssertionError: 1 !== 2`,
    "    at file:///thing_test.ts:28:10",
    "",
    `a property holds => ${colour("./tests/thing_test.ts:40:6")}`,
    `${colour("error")}: Error: Property failed after 281 tests`,
    '{ seed: -458064526, path: "280:3:1", endOnFailure: true }',
    "Counterexample: [[1,2]]",
    "Shrunk 33 time(s)",
    "    at file:///thing_test.ts:41:10",
    "Caused by: AssertionError: 3 !== 4",
    "",
    " FAILURES ",
    "",
    "a thing holds => ./tests/thing_test.ts:27:6",
    "a property holds => ./tests/thing_test.ts:40:6",
    "",
    "FAILED | 1 passed | 2 failed (9ms)",
    "",
  ];
  folder.write("test.log", log.join("\n"));
  folder.write("test.status", "1\n");
  const { stdout } = await new Deno.Command("sh", {
    args: [fileURLToPath(new URL(".ci/summary.sh", root)), folder.path, "suite:test"],
  }).output();
  assert.deepEqual(text.decode(stdout).trim().split("\n"), [
    "test failed: a thing holds => ./tests/thing_test.ts:27:6",
    "  AssertionError: 1 !== 2",
    "test failed: a property holds => ./tests/thing_test.ts:40:6",
    "  Error: Property failed after 281 tests",
    '  { seed: -458064526, path: "280:3:1", endOnFailure: true }',
    "  Counterexample: [[1,2]]",
    "  Caused by: AssertionError: 3 !== 4",
    "test: 1 passed, 2 failed",
    "1 passed, 2 failed",
  ]);
});

/** Whether there is a bash: on a machine without one, .ci/run itself can't run either, and nothing is left out. */
const bash = await new Deno.Command("bash", { args: ["-c", ":"] }).output().then(() => true, () => false);

/** Runs .ci/run in a folder of its own, with stand-ins for the programs that it calls. */
async function ci(
  stubs: Record<string, string>,
  readme?: string,
  environment: Record<string, string> = {},
): Promise<{ code: number; lines: string[] }> {
  using folder = new Folder();
  for (const name of ["run", "summary.sh"]) {
    folder.write(`.ci/${name}`, await Deno.readTextFile(new URL(`.ci/${name}`, root)));
  }
  folder.write("README.md", readme ?? await Deno.readTextFile(new URL("README.md", root)));
  const programs = {
    npx: 'echo "called: $*"; echo "ok | 4 passed | 0 failed (1ms)"',
    python3: "exit 0",
    go: "echo go version go1.26.8 linux/amd64",
    faketime: "exit 0",
    git: "exit 0",
    java: "echo 'openjdk version \"17.0.15\"' >&2",
    mvn: "exit 0",
    sudo: "exit 1",
    "apt-get": "exit 1",
    ...stubs,
  };
  for (const [name, body] of Object.entries(programs)) folder.write(`bin/${name}`, `#!/bin/sh\n${body}\n`, 0o755);
  const { code, stdout, stderr } = await new Deno.Command("bash", {
    args: [`${folder.path}/.ci/run`],
    env: { ...environment, PATH: `${folder.path}/bin:${Deno.env.get("PATH")}` },
    stdin: "null",
  }).output();
  assert.equal(text.decode(stderr), "", "all goes to one stream, so that the sum is its last line");
  return { code, lines: text.decode(stdout).trimEnd().split("\n") };
}

Deno.test({
  name: ".ci/run runs the README's test command, the gate and the end-to-end suite",
  ignore: !bash,
  async fn(t) {
    await t.step("all pass", async () => {
      const { code, lines } = await ci({});
      const called = lines.filter((line) => line.startsWith("called: "));
      const [first = ""] = called;
      assert.match(first, /^called: -y deno@\d+\.\d+\.\d+ task test$/);
      assert.deepEqual(
        called.map((line) => line.replace(/ --.*$/, "")),
        ["test", "ok", "e2e", "ci:dendrite", "e2e:keycloak", "image:check", "fuzz", "e2e:long"].map((task) =>
          first.replace(/test$/, task)
        ),
      );
      assert.equal(lines.at(-1), "28 passed, 0 failed");
      assert.equal(code, 0);
    });
    await t.step("the version is the README's", async () => {
      const { lines } = await ci({}, "text\nnpx -y deno@9.8.7 task test\n");
      assert.ok(lines.includes("called: -y deno@9.8.7 task e2e"));
    });
    const passing = 'echo "ok | 4 passed | 0 failed (1ms)"';
    const rows: [
      name: string,
      stubs: Record<string, string>,
      readme: string | undefined,
      last: string,
      said: RegExp,
    ][] = [
      [
        "one fails, the others still run",
        { npx: `${passing}; [ "$4" != test ]` },
        undefined,
        "28 passed, 1 failed",
        /test/,
      ],
      ["one is a no-op", { npx: `[ "$4" = e2e ] || ${passing}` }, undefined, "24 passed, 1 failed", /ran no tests/],
      ["no command in the README", {}, "# nothing", "0 passed, 8 failed", /README\.md has no line/],
      ["no venv", { python3: "exit 1" }, undefined, "0 passed, 8 failed", /there is no Python .*python3-venv/],
      [
        "a Python without a wheel, and no compiler",
        { python3: 'case "$*" in *"3, 13"*|*Python.h*) exit 1;; esac' },
        undefined,
        "0 passed, 8 failed",
        /nothing to build python-olm with/,
      ],
      ["no Go", { go: "exit 127" }, undefined, "0 passed, 8 failed", /there is no Go 1\.21/],
      ["an old Go", { go: "echo go version go1.19.8 linux/amd64" }, undefined, "0 passed, 8 failed", /no Go 1\.21/],
      ["an old Java", { java: "echo 'openjdk version \"11.0.2\"' >&2" }, undefined, "0 passed, 8 failed", /no Java 17/],
    ];
    for (const [name, stubs, readme, last, said] of rows) {
      await t.step(name, async () => {
        const { code, lines } = await ci(stubs, readme);
        assert.equal(lines.at(-1), last);
        assert.match(lines.join("\n"), said);
        assert.equal(code === 0, last.endsWith(" 0 failed"));
      });
    }
    await t.step("a process left behind by a step delays nothing", async () => {
      using folder = new Folder();
      const left = `${folder.path}/left`;
      const begin = performance.now();
      const { lines } = await ci({ npx: `sleep 120 & echo $! >>${left}; ${passing}` });
      const tookMs = performance.now() - begin;
      for (const pid of (await Deno.readTextFile(left)).trim().split("\n")) Deno.kill(Number(pid), "SIGKILL");
      assert.equal(lines.at(-1), "28 passed, 0 failed");
      assert.ok(tookMs < 60_000, `${tookMs} ms`);
    });
    // As the program itself, but the step that takes too long has a second in place of its minutes.
    const timeout = [
      "real=$(PATH=${PATH#*:}; command -v timeout)",
      'case "$*" in *" fuzz "*) shift 2; exec "$real" --kill-after=1 1 "$@" ;; esac',
      'exec "$real" "$@"',
    ].join("\n");
    const deaf = "trap '' TERM;";
    const endless: [name: string, step: string, started: string][] = [
      ["a step", "", ""],
      ["a step that has started something deaf", "", deaf],
      ["a step that is deaf to SIGTERM", deaf, ""],
    ];
    for (const [name, step, itself] of endless) {
      await t.step(`${name} is killed with all of it when it takes too long, and the others still run`, async () => {
        using folder = new Folder();
        const started = `${folder.path}/started`;
        const body = `${step} (${itself} exec sleep 1000) & echo $! >${started}; ${passing}; wait; sleep 1000`;
        const { code, lines } = await ci({
          npx: `if [ "$4" = fuzz ]; then ${body}; else ${passing}; fi`,
          timeout,
        });
        assert.ok(lines.includes("Cannot wait longer for fuzz: it has taken more than 600 s"));
        assert.ok(lines.includes("fuzz: 4 passed, 1 failed (took too long)"));
        assert.equal(lines.at(-1), "28 passed, 1 failed");
        assert.equal(code, 1);
        const pid = (await Deno.readTextFile(started)).trim();
        const state = async (): Promise<string> => {
          const { stdout } = await new Deno.Command("ps", { args: ["-o", "stat=", "-p", pid] }).output();
          return text.decode(stdout).trim();
        };
        // Dead, whether somebody has looked after it or not. A process that was killed is not gone at once.
        const deadline = performance.now() + 60_000;
        while (/^[^Z]/.test(await state())) assert.ok(performance.now() < deadline, "it still runs");
      });
    }
    await t.step("no step begins after 39 minutes", async () => {
      const { code, lines } = await ci({}, undefined, { SECONDS: "2340" });
      assert.ok(lines.includes("Cannot run fuzz: the time for all steps is over"));
      assert.equal(lines.at(-1), "0 passed, 8 failed");
      assert.equal(code, 1);
    });
    await t.step("what is missing is installed", async () => {
      const install = 'echo "apt-get $*"; case "$*" in *install*) cp "$0.go" "$(dirname "$0")/go";; esac';
      const { code, lines } = await ci({
        go: "exit 127",
        sudo: 'shift; exec "$@"',
        "apt-get": install,
        "apt-get.go": "echo go version go1.24.4 linux/amd64",
      });
      assert.ok(lines.some((line) => /^apt-get .*install.* golang$/.test(line)));
      assert.equal(lines.at(-1), "28 passed, 0 failed");
      assert.equal(code, 0);
    });
  },
});
