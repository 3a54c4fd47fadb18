/** `--healthcheck` as a program, against health servers in each state. */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { Health, Metrics, serveHealth } from "../../lib/service/mod.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const text = new TextDecoder();

async function run(args: readonly string[], env: Record<string, string>) {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "--allow-net", "--allow-env", "--allow-read", "main.ts", ...args],
    cwd: root,
    clearEnv: true,
    env: { HOME: Deno.env.get("HOME") ?? "", PATH: Deno.env.get("PATH") ?? "", NO_COLOR: "1", ...env },
  }).output();
  return { code, said: (text.decode(stdout) + text.decode(stderr)).trim() };
}

const complete = { MATRIX_USER: "toggle", MATRIX_PASSWORD: "secret", ALLOWED_USERS: "@a:b" };

Deno.test("--healthcheck says what /readyz says", async (t) => {
  const health = new Health();
  const metrics = await Metrics.open("1.2.3", () => 0);
  const server = await serveHealth({ hostname: "::", port: 0 }, health, metrics);
  const { port } = server;
  const ask = (address: string) => run(["--healthcheck"], { ...complete, HTTP_ADDRESS: address });
  await t.step("not ready", async () => {
    assert.deepEqual(await ask(`127.0.0.1:${port}`), { code: 1, said: "starting" });
  });
  health.ready();
  for (const host of ["127.0.0.1", "[::]", "[::1]", "0.0.0.0", "localhost"]) {
    await t.step(`ready at ${host}`, async () => {
      assert.deepEqual(await ask(`${host}:${port}`), { code: 0, said: "ready" });
    });
  }
  await server[Symbol.asyncDispose]();
  await t.step("nobody there", async () => {
    const { code, said } = await ask(`[::]:${port}`);
    assert.equal(code, 1);
    assert.match(said, /^Cannot GET http:\/\/127\.0\.0\.1:\d+\/readyz: .*refused/i);
  });
});

Deno.test("--healthcheck says so where nothing can be asked", async () => {
  const off = await run(["--healthcheck"], complete);
  assert.deepEqual(off, { code: 1, said: "HTTP_ADDRESS: off, so there is nothing to ask; use e.g. 127.0.0.1:8080" });
  const any = await run(["--healthcheck"], { ...complete, HTTP_ADDRESS: "127.0.0.1:0" });
  assert.equal(any.code, 1);
  assert.match(any.said, /^HTTP_ADDRESS: on any free port/);
  assert.equal((await run(["--healthcheck"], {})).code, 2);
});

Deno.test({
  name: "serveHealth() falls back where this machine has no IPv6, for a default only",
  ignore: Deno.build.os !== "linux",
  async fn() {
    const listen = async (program: readonly string[], ...args: string[]) => {
      const [command = "", ...rest] = [...program, Deno.execPath(), "run", "-A", "tests/service/listen_program.ts"];
      const { stdout, stderr } = await new Deno.Command(command, { args: [...rest, ...args], cwd: root }).output();
      return { said: text.decode(stdout).trim(), errors: text.decode(stderr) };
    };
    const without = ["python3", "tests/service/without_ipv6.py"];
    const works = "listening, healthz: alive";
    assert.equal((await listen([], "::", "0.0.0.0")).said, works);
    assert.equal((await listen(without, "::", "0.0.0.0")).said, works);
    assert.match((await listen(without, "::")).said, /^Cannot listen on \[::\]:0: .*not supported.*Set HTTP_ADDRESS/);
    assert.match((await listen(without, "::", "::1")).said, /^Cannot listen on/);
  },
});
