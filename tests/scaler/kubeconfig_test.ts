import assert from "node:assert/strict";
import { ConfigError, CredentialError } from "../../lib/errors.ts";
import { type Cluster, type Header, openCluster } from "../../lib/scaler/mod.ts";
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

/** Headers that the next request would carry. */
async function headersOf(cluster: Cluster): Promise<readonly Header[]> {
  using connection = await cluster.connect(patient);
  return connection.headers;
}

async function written(text: string) {
  const path = await Deno.makeTempFile();
  await Deno.writeTextFile(path, text);
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path) };
}

Deno.test("a kubeconfig that cannot be used is a ConfigError that names it and says why", async (t) => {
  const https = "https://it.example";
  const rows: [name: string, text: string, says: string][] = [
    ["no YAML", `token: ${SECRET}\n  nonsense: [`, "it is not a kubeconfig (YAMLException)"],
    ["a list", "[]", "it is not a kubeconfig (TypeError)"],
    ["empty", "", "it has no current-context; its contexts: none"],
    ["null", "null", "it has no current-context; its contexts: none"],
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
      kubeconfig({ context: { cluster: "it", user: "x" } }),
      'context "it" names user "x", which is missing',
    ],
    ["a cluster without a server", kubeconfig({ cluster: { name: "it" } }), 'cluster "it" has no server'],
    [
      "no verification",
      kubeconfig({ cluster: { server: https, "insecure-skip-tls-verify": true } }),
      "insecure-skip-tls-verify is not supported; use certificate-authority-data instead",
    ],
    [
      "another server name",
      kubeconfig({ cluster: { server: https, "tls-server-name": "x" } }),
      "tls-server-name is not supported",
    ],
    [
      "a key that is none",
      kubeconfig({ user: { "client-certificate-data": SECRET, "client-key-data": SECRET } }),
      "Can't connect to the cluster (it): its certificates, key or proxy-url can't be used (InvalidData)",
    ],
    ["a token that is a number", kubeconfig({ user: { token: 5 } }), 'user "it": token is not a string'],
    [
      "two users of a name",
      kubeconfig({}, { users: [{ name: "it" }, { name: "it" }] }),
      'it has several users with the name "it"',
    ],
    ["two ways", kubeconfig({ user: { token: "t", username: "u" } }), 'user "it" has both a token and a password'],
    [
      "a certificate without a key",
      kubeconfig({ user: { "client-certificate-data": SECRET } }),
      'user "it" has a client-certificate without a client-key',
    ],
    [
      "an authority in two places",
      kubeconfig({ cluster: { server: https, "certificate-authority": "x", "certificate-authority-data": SECRET } }),
      'cluster "it" has both certificate-authority and certificate-authority-data',
    ],
    [
      "data that is not base64",
      kubeconfig({ cluster: { server: https, "certificate-authority-data": "%" } }),
      'cluster "it": certificate-authority-data is not base64',
    ],
    [
      "groups of nobody",
      kubeconfig({ user: { token: "t", "as-groups": ["g"] } }),
      'user "it" has as-uid, as-groups or as-user-extra without as',
    ],
    [
      "a provider",
      kubeconfig({ user: { "auth-provider": { name: "gcp" } } }),
      'user "it": auth-provider "gcp" is not supported',
    ],
    [
      "a plugin that asks",
      kubeconfig({
        user: { exec: { apiVersion: "client.authentication.k8s.io/v1", command: "x", interactiveMode: "Always" } },
      }),
      'user "it" logs in by asking at a terminal; use another way',
    ],
    [
      "a plugin of an old version",
      kubeconfig({ user: { exec: { apiVersion: "client.authentication.k8s.io/v1alpha1", command: "x" } } }),
      'user "it": exec has an apiVersion other than client.authentication.k8s.io/v1 and v1beta1',
    ],
    [
      "a token in the clear",
      kubeconfig({ cluster: { server: "http://it.example" } }),
      'the credentials of user "it" would be sent in the clear to http://it.example; use https',
    ],
  ];
  for (const [name, text, says] of rows) {
    await t.step(name, async () => {
      await using file = await written(text);
      await assert.rejects(openCluster({ ...nowhere, kubeconfig: file.path }, patient), (error: Error) => {
        assert.ok(error instanceof ConfigError, error.message);
        assert.equal(error.message, says.startsWith("Can't") ? says : `KUBECONFIG: can't use ${file.path}: ${says}`);
        return true;
      });
    });
  }
  await t.step("not there", async () => {
    await assert.rejects(openCluster({ ...nowhere, kubeconfig: "/nonexistent/config" }, patient), {
      name: "ConfigError",
      message: "KUBECONFIG: can't use /nonexistent/config: no such file",
    });
  });
  await t.step("a folder", async () => {
    await assert.rejects(openCluster({ ...nowhere, kubeconfig: "/" }, patient), {
      name: "ConfigError",
      message: "KUBECONFIG: can't use /: it is not a kubeconfig (IsADirectory)",
    });
  });
});

Deno.test("a kubeconfig is sent as kubectl would send it", async (t) => {
  const token = ["authorization", "Bearer t"] as const;
  const as = { "as": "carl", "as-uid": "7", "as-groups": ["a", "b, c"], "as-user-extra": { "ex/tra": ["1", "2"] } };
  const exec = { apiVersion: "client.authentication.k8s.io/v1", command: "false" };
  const rows: [name: string, text: string, headers: readonly Header[]][] = [
    ["a token", kubeconfig({ user: { token: "t" } }), [token]],
    ["a token's file", kubeconfig({ user: { tokenFile: "token" } }), [["authorization", "Bearer of-the-file"]]],
    ["a token's file before the token", kubeconfig({ user: { token: "t", tokenFile: "token" } }), [[
      "authorization",
      "Bearer of-the-file",
    ]]],
    ["the token where its file is missing", kubeconfig({ user: { token: "t", tokenFile: "none" } }), [token]],
    ["a password", kubeconfig({ user: { username: "ü", password: "p" } }), [["authorization", "Basic w7w6cA=="]]],
    ["a token before a plugin", kubeconfig({ user: { token: "t", exec } }), [token]],
    ["impersonation", kubeconfig({ user: { token: "t", ...as } }), [
      token,
      ["impersonate-user", "carl"],
      ["impersonate-uid", "7"],
      ["impersonate-group", "a"],
      ["impersonate-group", "b, c"],
      ["impersonate-extra-ex%2Ftra", "1"],
      ["impersonate-extra-ex%2Ftra", "2"],
    ]],
    ["nobody", kubeconfig({ context: { cluster: "it" } }), []],
    ["a user without credentials", kubeconfig({}, { users: [{ name: "it" }] }), []],
    [
      "an unused user that makes no sense",
      kubeconfig({}, { users: [{ name: "x", user: 5 }, null, { name: "it", user: { token: "t" } }] }),
      [token],
    ],
    [
      "an unused cluster that makes no sense",
      kubeconfig({ user: { token: "t" } }, {
        clusters: [{ name: "x", cluster: {} }, { name: "it", cluster: { server: "https://h" } }],
      }),
      [token],
    ],
    [
      "YAML 1.1",
      `{current-context: it, base: &b {user: it}, users: [{name: it, user: {token: t}}], clusters: [{name: it, cluster: {server: "https://h", insecure-skip-tls-verify: no}}], contexts: [{name: it, context: {<<: *b, cluster: it}}]}`,
      [token],
    ],
  ];
  for (const [name, text, headers] of rows) {
    await t.step(name, async () => {
      const folder = await Deno.makeTempDir();
      await Deno.writeTextFile(`${folder}/token`, "of-the-file\n");
      await Deno.writeTextFile(`${folder}/config`, text);
      await Deno.writeTextFile(`${folder}/empty`, "");
      try {
        const paths = `${folder}/empty:${folder}/config:${folder}/missing`;
        using cluster = await openCluster({ ...nowhere, kubeconfig: paths }, patient);
        assert.deepEqual(await headersOf(cluster), headers);
      } finally {
        await Deno.remove(folder, { recursive: true });
      }
    });
  }
});

Deno.test("several kubeconfigs are merged as kubectl does: the first that says a thing counts", async () => {
  await using first = await written(kubeconfig({ cluster: { server: "https://first.example" } }, { contexts: [] }));
  await using second = await written(kubeconfig({ cluster: { server: "https://second.example" } }));
  using cluster = await openCluster({ ...nowhere, kubeconfig: `${first.path}:${second.path}` }, patient);
  assert.equal(cluster.server, "https://first.example");
});

Deno.test("a credential plugin is run, and run again when its credentials are renewed", async () => {
  await using counter = await written("x");
  const script = `printf x >> ${counter.path}; printf '{"status":{"token":"token-%s"}}' $(wc -c < ${counter.path})`;
  await using file = await written(
    kubeconfig({
      user: { exec: { apiVersion: "client.authentication.k8s.io/v1", command: "sh", args: ["-c", script] } },
    }),
  );
  using cluster = await openCluster({ ...nowhere, kubeconfig: file.path }, patient);
  assert.deepEqual(await headersOf(cluster), [["authorization", "Bearer token-2"]]);
  cluster.invalidateCredentials();
  assert.deepEqual(await headersOf(cluster), [["authorization", "Bearer token-3"]]);
  assert.deepEqual(await headersOf(cluster), [["authorization", "Bearer token-3"]]);
});

/** client-node starts the plugin and gives no handle on it: whoever hangs may outlive the test by a moment. */
const startsHelpers = { sanitizeOps: false, sanitizeResources: false };

Deno.test(
  "a credential plugin that fails is a CredentialError, one that hangs ends with the signal",
  startsHelpers,
  async (t) => {
    for (const [name, command] of [["fails", "false"], ["is not there", "/nonexistent/plugin"]] as const) {
      await t.step(name, async () => {
        await using file = await written(
          kubeconfig({ user: { exec: { apiVersion: "client.authentication.k8s.io/v1", command } } }),
        );
        await assert.rejects(
          openCluster({ ...nowhere, kubeconfig: file.path }, AbortSignal.timeout(60_000)),
          CredentialError,
        );
      });
    }
    await t.step("hangs", async () => {
      await using stopped = await written("");
      const script = `until test -s ${stopped.path}; do sleep 0.05; done; printf '{"status":{}}'`;
      await using file = await written(
        kubeconfig({
          user: { exec: { apiVersion: "client.authentication.k8s.io/v1", command: "sh", args: ["-c", script] } },
        }),
      );
      const reason = new Error("the program ends");
      const controller = new AbortController();
      const opening = openCluster({ ...nowhere, kubeconfig: file.path }, controller.signal);
      queueMicrotask(() => controller.abort(reason));
      await assert.rejects(opening, reason);
      await Deno.writeTextFile(stopped.path, "x");
    });
  },
);

Deno.test("the program's least permissions read a kubeconfig, and refuse a credential plugin by name", async (t) => {
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
      "a plugin",
      { exec: { apiVersion: "client.authentication.k8s.io/v1", command: "aws" } },
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
