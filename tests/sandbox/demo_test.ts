import assert from "node:assert/strict";
import { join } from "node:path";

const root = join(import.meta.dirname ?? ".", "..", "..");

/** A demo without a terminal, with an empty folder for what is temporary. */
class Demo implements AsyncDisposable {
  readonly process: Deno.ChildProcess;
  readonly folder: string;
  readonly output: AsyncGenerator<string>;
  readonly errors: Promise<string>;
  #unread = "";

  constructor(folder: string, { args = [], tmpdir = folder }: { args?: string[]; tmpdir?: string } = {}) {
    this.folder = folder;
    this.process = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--quiet", join(root, "sandbox", "demo.ts"), ...args],
      env: { TMPDIR: tmpdir, NO_COLOR: "1" },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.output = piecesOf(this.process.stdout);
    this.errors = new Response(this.process.stderr).text();
  }

  /** Reads what it prints, from the last match on up to the next. */
  async until(pattern: RegExp): Promise<RegExpExecArray> {
    while (true) {
      const match = pattern.exec(this.#unread);
      if (match !== null) {
        this.#unread = this.#unread.slice(match.index + match[0].length);
        return match;
      }
      const { value, done } = await this.output.next();
      if (done) throw new Error(`It ended and did not print ${pattern}: ${this.#unread}${await this.errors}`);
      this.#unread += value;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for await (const _piece of this.output) { /* to its end, so that the pipe is closed */ }
    await this.errors;
    await this.process.status;
    await Deno.remove(this.folder, { recursive: true });
  }
}

async function* piecesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, void> {
  yield* stream.pipeThrough(new TextDecoderStream()).values();
}

async function emptyFolder(): Promise<string> {
  // The real path is the one that a watcher tells.
  return await Deno.realPath(await Deno.makeTempDir({ prefix: "demo-test-" }));
}

function leftIn(folder: string): string[] {
  return Array.from(Deno.readDirSync(folder), ({ name }) => name);
}

/** A zombie, that nobody has asked for its exit code yet, does not run. */
async function isRunning(pid: string): Promise<boolean> {
  const { stdout } = await new Deno.Command("ps", { args: ["-o", "stat=", "-p", pid] }).output();
  return /^[^Z\s]/.test(new TextDecoder().decode(stdout).trim());
}

const readyLine = /✔ the operator \(process (\d+)\) is ready/;

Deno.test("demo plays a conversation without a terminal, and cleans up", async () => {
  await using demo = new Demo(await emptyFolder());
  const [, pid = ""] = await demo.until(readyLine);
  await demo.until(/🔒 you +good morning\n[^]*🔒 toggle +clawdbot was asleep: starting/);
  await demo.until(/🔒 clawd +You said: good morning\n/);
  await demo.until(/✔ clawd was asleep, and a message woke it/);
  // On a slow machine, the pod may be ready before the answer is read.
  await demo.until(
    /🔒 you +start\n(?=[^]*clawdbot 1\/1 ready)[^]*🔒 toggle +(?:✎ )?🦞 start\n +clawdbot is on \(1 replica\)/,
  );
  await demo.until(/🔒 mallory +stop\n/);
  await demo.until(/✔ mallory, whom the operator does not know, was ignored 2 times/);
  await demo.until(/✔ the homeserver saw \d+ messages, \d+ of them m\.room\.encrypted, 0 in clear/);
  assert.equal((await demo.process.status).code, 0, await demo.errors);
  assert.deepEqual(leftIn(demo.folder), []);
  assert.equal(await isRunning(pid), false);
});

Deno.test("demo ends everything when it is ended", async (t) => {
  const rows: [name: string, end: (demo: Demo, pid: string) => void | Promise<void>, code: number, says: RegExp][] = [
    ["by SIGTERM", ({ process }) => process.kill("SIGTERM"), 1, /^Interrupted\n$/],
    [
      "by Ctrl-C, and the same once more from a task runner",
      async ({ process }, pid) => {
        // While the operator is frozen, the demo waits for its end, and sees both.
        Deno.kill(Number(pid), "SIGSTOP");
        process.kill("SIGINT");
        // Equal signals that follow at once may become one, and those half a second apart are two.
        await new Promise((resolve) => setTimeout(resolve, 50));
        process.kill("SIGINT");
        Deno.kill(Number(pid), "SIGCONT");
      },
      1,
      /^Interrupted\n$/,
    ],
    [
      "by the operator's own end",
      (_demo, pid) => Deno.kill(Number(pid), "SIGKILL"),
      1,
      /^Cannot run the operator: it ended with code 137\. Its last lines:\n {2}[^]*ready: /,
    ],
    ["by SIGKILL", ({ process }) => process.kill("SIGKILL"), 137, /^$/],
  ];
  for (const [name, end, code, says] of rows) {
    await t.step(name, async () => {
      await using demo = new Demo(await emptyFolder());
      const [, pid = ""] = await demo.until(readyLine);
      assert.ok(await isRunning(pid));
      const folder = join(demo.folder, leftIn(demo.folder)[0] ?? "");
      using watcher = Deno.watchFs(demo.folder, { recursive: false });
      const late = setTimeout(() => watcher.close(), 60_000);
      await end(demo, pid);
      assert.equal((await demo.process.status).code, code);
      assert.match(await demo.errors, says);
      for await (const { kind, paths } of watcher) if (kind === "remove" && paths.includes(folder)) break;
      clearTimeout(late);
      assert.deepEqual(leftIn(demo.folder), []);
      // A process that was killed is not gone at once.
      const deadline = performance.now() + 60_000;
      while (await isRunning(pid)) assert.ok(performance.now() < deadline, "the operator still runs");
    });
  }
});

Deno.test("demo refuses bad use with a clear line", async (t) => {
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const port = String(taken.addr.port);
  const file = join(root, "deno.json");
  const rows: [name: string, options: { args?: string[]; tmpdir?: string }, code: number, says: RegExp][] = [
    [
      "a port that is taken",
      { args: ["--homeserver-port", port] },
      1,
      /^Cannot start the sandbox homeserver: port \d+ is taken; --homeserver-port N .*\n$/,
    ],
    [
      "another",
      { args: ["--kubernetes-port", port] },
      1,
      /^Cannot start the sandbox Kubernetes API: port \d+ is taken; .*\n$/,
    ],
    [
      "no number",
      { args: ["--kubernetes-port", "http"] },
      2,
      /^Cannot use --kubernetes-port http: a port is a number .*\n$/,
    ],
    [
      "an unknown option",
      { args: ["--port", "1"] },
      2,
      /^.*--port.* \(permitted: --homeserver-port N, --kubernetes-port N\)\n$/,
    ],
    [
      "no temporary folder",
      { tmpdir: file },
      1,
      /^Cannot make a folder in .*deno\.json: .*; TMPDIR chooses another place\n$/,
    ],
  ];
  for (const [name, options, code, says] of rows) {
    await t.step(name, async () => {
      await using demo = new Demo(await emptyFolder(), options);
      assert.equal((await demo.process.status).code, code);
      assert.match(await demo.errors, says);
      assert.deepEqual(leftIn(demo.folder), []);
    });
  }
});
