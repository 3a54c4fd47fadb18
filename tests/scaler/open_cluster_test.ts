import assert from "node:assert/strict";
import { ConfigError, CredentialError, TransientError } from "../../lib/errors.ts";
import { type ClusterEnvironment, KubernetesApi, openCluster, serverVersion } from "../../lib/scaler/mod.ts";
import { nowhere, patient } from "./at_sandbox.ts";
import { authority, certificate, privateKey } from "../certificates.ts";

/** A folder with a ServiceAccount's files, and a home with a kubeconfig. The certificate is of nobody. */
async function places() {
  const folder = await Deno.makeTempDir();
  await Deno.mkdir(`${folder}/account`);
  await Deno.mkdir(`${folder}/home/.kube`, { recursive: true });
  await Deno.writeTextFile(`${folder}/account/token`, "first\n");
  await Deno.writeTextFile(`${folder}/account/ca.crt`, "");
  await Deno.writeTextFile(`${folder}/home/.kube/config`, kubeconfig("at-home"));
  await Deno.writeTextFile(`${folder}/named`, kubeconfig("named"));
  return { folder, [Symbol.asyncDispose]: () => Deno.remove(folder, { recursive: true }) };
}

function kubeconfig(name: string): string {
  return JSON.stringify({
    "current-context": name,
    clusters: [{ name, cluster: { server: `https://${name}.example:6443/` } }],
    users: [{ name, user: { token: "t" } }],
    contexts: [{ name, context: { cluster: name, user: name } }],
  });
}

Deno.test("openCluster() takes KUBECONFIG, else the pod's own cluster, else ~/.kube/config", async (t) => {
  await using at = await places();
  const account = { serviceHost: "10.0.0.1", servicePort: "443", serviceAccountFolder: `${at.folder}/account` };
  const home = `${at.folder}/home`;
  const named = `${at.folder}/named`;
  const rows: [name: string, places: Partial<ClusterEnvironment>, context: string, server: string][] = [
    ["all three", { kubeconfig: named, ...account, home }, "named", "https://named.example:6443"],
    ["an empty KUBECONFIG", { kubeconfig: "", ...account, home }, "in-cluster", "https://10.0.0.1:443"],
    ["no KUBECONFIG", { ...account, home }, "in-cluster", "https://10.0.0.1:443"],
    ["an IPv6 cluster", { ...account, serviceHost: "fd00::1" }, "in-cluster", "https://[fd00::1]:443"],
    ["a cluster without a port", { ...account, servicePort: undefined }, "in-cluster", "https://10.0.0.1:443"],
    ["no token", { ...account, serviceAccountFolder: "/nonexistent", home }, "at-home", "https://at-home.example:6443"],
    ["home only", { home }, "at-home", "https://at-home.example:6443"],
    [
      "several files",
      { kubeconfig: `/nonexistent:${named}:${home}/.kube/config` },
      "named",
      "https://named.example:6443",
    ],
  ];
  for (const [name, given, context, server] of rows) {
    await t.step(name, async () => {
      using cluster = await openCluster({ ...nowhere, ...given }, patient);
      assert.deepEqual([cluster.context, cluster.server], [context, server]);
    });
  }
});

Deno.test("openCluster() names all three places where there is no cluster", async () => {
  await assert.rejects(openCluster({ ...nowhere, home: "/nonexistent" }, patient), (error: Error) => {
    assert.ok(error instanceof ConfigError);
    for (const place of ["KUBECONFIG", "KUBERNETES_SERVICE_HOST", "/nonexistent/.kube/config"]) {
      assert.ok(error.message.includes(place), error.message);
    }
    return true;
  });
});

Deno.test("openCluster() checks the signal first", async () => {
  const reason = new Error("the program ends");
  await assert.rejects(openCluster(nowhere, AbortSignal.abort(reason)), reason);
});

Deno.test("a cluster of a pod reads its token again when it changes", async () => {
  await using at = await places();
  const account = { serviceHost: "10.0.0.1", serviceAccountFolder: `${at.folder}/account` };
  using cluster = await openCluster({ ...nowhere, ...account }, patient);
  const seen = async () => {
    using connection = await cluster.connect(patient);
    return new Headers([...connection.headers.map(([name, value]): [string, string] => [name, value])]).get(
      "authorization",
    );
  };
  assert.equal(await seen(), "Bearer first");
  await Deno.writeTextFile(`${at.folder}/account/token`, "second");
  assert.equal(await seen(), "Bearer second");
});

Deno.test("a cluster of a pod says what is wrong with its files, never what is in them", async (t) => {
  const rows: [name: string, spoil: (account: string) => Promise<void>, says: RegExp][] = [
    ["no token", (account) => Deno.remove(`${account}/token`), /Cannot read the ServiceAccount's token .*: NotFound$/],
    ["a token of two lines", (account) => Deno.writeTextFile(`${account}/token`, "a\nb"), /characters that a header/],
  ];
  for (const [name, spoil, says] of rows) {
    await t.step(name, async () => {
      await using at = await places();
      const account = { serviceHost: "10.0.0.1", serviceAccountFolder: `${at.folder}/account` };
      using cluster = await openCluster({ ...nowhere, ...account }, patient);
      await spoil(`${at.folder}/account`);
      await assert.rejects(cluster.connect(patient), (error: Error) => {
        assert.ok(error instanceof CredentialError);
        assert.match(error.message, says);
        return true;
      });
    });
  }
  await t.step("no certificate authority", async () => {
    await using at = await places();
    await Deno.remove(`${at.folder}/account/ca.crt`);
    const account = { serviceHost: "10.0.0.1", serviceAccountFolder: `${at.folder}/account` };
    await assert.rejects(openCluster({ ...nowhere, ...account }, patient), ConfigError);
  });
});

Deno.test("a cluster is not talked to over HTTP/2, where one dead connection holds up everything", async (t) => {
  const account = async (folder: string, port: number) => {
    await Deno.writeTextFile(`${folder}/account/ca.crt`, authority);
    return { serviceHost: "localhost", servicePort: `${port}`, serviceAccountFolder: `${folder}/account` };
  };
  const config = async (folder: string, port: number) => {
    const cluster = { server: `https://localhost:${port}`, "certificate-authority-data": btoa(authority) };
    const clusters = [{ name: "named", cluster }];
    await Deno.writeTextFile(`${folder}/named`, JSON.stringify({ ...JSON.parse(kubeconfig("named")), clusters }));
    return { kubeconfig: `${folder}/named` };
  };
  for (const [name, write] of Object.entries({ account, config })) {
    await t.step(name, async () => {
      await using at = await places();
      using server = Deno.listenTls({
        hostname: "localhost",
        port: 0,
        cert: certificate,
        key: privateKey,
        alpnProtocols: ["h2", "http/1.1"],
      });
      using cluster = await openCluster({ ...nowhere, ...await write(at.folder, server.addr.port) }, patient);
      const asking = assert.rejects(serverVersion(new KubernetesApi(cluster), patient), TransientError);
      const connection = await server.accept();
      assert.equal((await connection.handshake()).alpnProtocol, "http/1.1");
      connection.close();
      await asking;
    });
  }
});
