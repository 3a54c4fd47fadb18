import assert from "node:assert/strict";
import { ConfigError, CredentialError } from "../../lib/errors.ts";
import { openCluster } from "../../lib/scaler/mod.ts";
import { nowhere, patient } from "./at_sandbox.ts";

const SECRET = "c2VjcmV0";

type Parts = Record<"context" | "cluster" | "user", unknown>;

/** A kubeconfig as text, with one cluster, user and context named `it`. */
function kubeconfig(parts: Partial<Parts> = {}, more: Record<string, unknown> = {}): string {
  const { cluster, user, context } = parts;
  return JSON.stringify({
    "current-context": "it",
    clusters: [{ name: "it", cluster: cluster ?? { server: "https://it.example" } }],
    users: [{ name: "it", user: user ?? { token: SECRET } }],
    contexts: [{ name: "it", context: context ?? { cluster: "it", user: "it" } }],
    ...more,
  });
}

async function written(text: string) {
  const path = await Deno.makeTempFile();
  await Deno.writeTextFile(path, text);
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path) };
}

Deno.test("a kubeconfig that cannot be used is a ConfigError that names it and says why", async (t) => {
  const https = "https://it.example";
  const rows: [name: string, text: string, says: string][] = [
    ["no YAML", `token: ${SECRET}\n  nonsense: [`, "no kubeconfig can be read from it (YAMLException)"],
    ["empty", "", "no kubeconfig can be read from it (YAMLException)"],
    ["null", "null", "no kubeconfig can be read from it (TypeError)"],
    ["no context at all", "{}", "it has no current-context; its contexts: none"],
    ["no current context", kubeconfig({}, { "current-context": "" }), "it has no current-context; its contexts: it"],
    [
      "a context that is not there",
      kubeconfig({}, { "current-context": "x" }),
      'it has no context "x"; its contexts: it',
    ],
    [
      "a cluster that is not there",
      kubeconfig({ context: { cluster: "x", user: "it" } }),
      'context "it" names cluster "x", which is missing',
    ],
    [
      "a user that is not there",
      kubeconfig({ context: { cluster: "it" } }),
      'context "it" names user "", which is missing',
    ],
    ["a cluster without a server", kubeconfig({ cluster: { name: "it" } }), "clusters[0].cluster.server is missing"],
    [
      "no verification",
      kubeconfig({ cluster: { server: https, "insecure-skip-tls-verify": true } }),
      "insecure-skip-tls-verify is not supported; give certificate-authority-data instead",
    ],
    [
      "another server name",
      kubeconfig({ cluster: { server: https, "tls-server-name": "x" } }),
      "tls-server-name is not supported",
    ],
    [
      "a key that is none",
      kubeconfig({ user: { "client-certificate-data": SECRET, "client-key-data": SECRET } }),
      "its certificates, key or proxy-url cannot be used (InvalidData)",
    ],
  ];
  for (const [name, text, says] of rows) {
    await t.step(name, async () => {
      await using file = await written(text);
      await assert.rejects(openCluster({ ...nowhere, kubeconfig: file.path }, patient), (error: Error) => {
        assert.ok(error instanceof ConfigError, error.message);
        assert.equal(error.message, `KUBECONFIG: cannot use ${file.path}: ${says}`);
        return true;
      });
    });
  }
  await t.step("not there", async () => {
    await assert.rejects(openCluster({ ...nowhere, kubeconfig: "/nonexistent/config" }, patient), {
      name: "ConfigError",
      message: "KUBECONFIG: cannot use /nonexistent/config: no such file",
    });
  });
  await t.step("a folder", async () => {
    await assert.rejects(openCluster({ ...nowhere, kubeconfig: "/" }, patient), {
      name: "ConfigError",
      message: "KUBECONFIG: cannot use /: no kubeconfig can be read from it (Error)",
    });
  });
});

Deno.test("several kubeconfigs are merged as kubectl does: the first that says a thing counts", async () => {
  await using first = await written(kubeconfig({ cluster: { server: "https://first.example" } }, { contexts: [] }));
  await using second = await written(kubeconfig({ cluster: { server: "https://second.example" } }));
  using cluster = await openCluster({ ...nowhere, kubeconfig: `${first.path}:${second.path}` }, patient);
  assert.equal(cluster.server, "https://first.example");
});

Deno.test("a login helper is run, and run again when its credentials are renewed", async () => {
  await using counter = await written("x");
  const script = `printf x >> ${counter.path}; printf '{"status":{"token":"token-%s"}}' $(wc -c < ${counter.path})`;
  await using file = await written(kubeconfig({ user: { exec: { command: "sh", args: ["-c", script] } } }));
  using cluster = await openCluster({ ...nowhere, kubeconfig: file.path }, patient);
  assert.equal((await cluster.credential(patient)).headers.get("authorization"), "Bearer token-2");
  assert.equal((await cluster.renew(patient)).headers.get("authorization"), "Bearer token-3");
  assert.equal((await cluster.credential(patient)).headers.get("authorization"), "Bearer token-3");
});

/** client-node starts the helper and gives no handle on it: whoever hangs may outlive the test by a moment. */
const startsHelpers = { sanitizeOps: false, sanitizeResources: false };

Deno.test(
  "a login helper that fails is a CredentialError, one that hangs ends with the signal",
  startsHelpers,
  async (t) => {
    for (const [name, command] of [["fails", "false"], ["is not there", "/nonexistent/helper"]] as const) {
      await t.step(name, async () => {
        await using file = await written(kubeconfig({ user: { exec: { command } } }));
        await assert.rejects(
          openCluster({ ...nowhere, kubeconfig: file.path }, AbortSignal.timeout(5_000)),
          CredentialError,
        );
      });
    }
    await t.step("hangs", async () => {
      await using stopped = await written("");
      const script = `until test -s ${stopped.path}; do sleep 0.05; done; printf '{"status":{}}'`;
      await using file = await written(kubeconfig({ user: { exec: { command: "sh", args: ["-c", script] } } }));
      const reason = new Error("the program ends");
      const controller = new AbortController();
      const opening = openCluster({ ...nowhere, kubeconfig: file.path }, controller.signal);
      queueMicrotask(() => controller.abort(reason));
      await assert.rejects(opening, reason);
      await Deno.writeTextFile(stopped.path, "x");
    });
  },
);

Deno.test("the program's least permissions read a kubeconfig, and refuse a login helper by name", async (t) => {
  const door = new URL("../../lib/scaler/mod.ts", import.meta.url);
  const program = `
    import { openCluster } from "${door}";
    const places = { serviceHost: undefined, servicePort: undefined, serviceAccountFolder: "/nonexistent", home: undefined };
    try {
      using cluster = await openCluster({ ...places, kubeconfig: Deno.args[0] }, new AbortController().signal);
      console.log(cluster.server);
    } catch (error) {
      console.log(error.name, error.message);
    }`;
  const rows: [name: string, user: unknown, says: RegExp][] = [
    ["a token", { token: SECRET }, /^https:\/\/it\.example\n$/],
    [
      "a helper",
      { exec: { command: "aws" } },
      /^ConfigError KUBECONFIG: .* running "aws", .*`deno task conntest`.*`deno task dev`/,
    ],
  ];
  for (const [name, user, says] of rows) {
    await t.step(name, async () => {
      await using entry = await written(program);
      await using file = await written(kubeconfig({ user }));
      const config = new URL("../../deno.json", import.meta.url).pathname;
      const permissions = [
        "--no-prompt",
        "--allow-net",
        "--allow-env",
        "--allow-read",
        "--allow-write",
        "--allow-sys=hostname",
      ];
      const args = ["run", "--quiet", "--ext=ts", `--config=${config}`, ...permissions, entry.path, file.path];
      const { stdout, stderr } = await new Deno.Command(Deno.execPath(), { args }).output();
      assert.match(new TextDecoder().decode(stdout), says, new TextDecoder().decode(stderr));
    });
  }
});
