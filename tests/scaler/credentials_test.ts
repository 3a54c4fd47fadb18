/** Mounted files are replaced while the program runs: a token, a cluster's authority, a client's certificate. */

import assert from "node:assert/strict";
import { TransientError } from "../../lib/errors.ts";
import { Cluster, KubernetesApi, openCluster, serverVersion } from "../../lib/scaler/mod.ts";
import * as certificates from "../certificates.ts";
import { nowhere, patient } from "./at_sandbox.ts";

const { authority, otherAuthority } = certificates;

/** An API server with TLS, whose certificate can be changed; it answers with the token that it was shown. */
class TlsServer implements AsyncDisposable {
  readonly port: number;
  #server: Deno.HttpServer<Deno.NetAddr>;

  constructor() {
    this.#server = this.#listen(0, certificates.certificate, certificates.privateKey);
    this.port = this.#server.addr.port;
  }

  /** Is restarted with a certificate of the other authority. */
  async rotate(): Promise<void> {
    await this.#server.shutdown();
    this.#server = this.#listen(this.port, certificates.otherCertificate, certificates.otherPrivateKey);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }

  #listen(port: number, cert: string, key: string): Deno.HttpServer<Deno.NetAddr> {
    const options = { hostname: "127.0.0.1", port, cert, key, onListen: () => {} };
    return Deno.serve(options, (request) => {
      return Response.json({ gitVersion: request.headers.get("authorization") }, { headers: { connection: "close" } });
    });
  }
}

/** A folder as a pod finds its ServiceAccount, with the files that are given. */
async function mounted(files: Readonly<Record<string, string>>) {
  const folder = await Deno.makeTempDir();
  const write = async (changed: Readonly<Record<string, string>>) => {
    for (const [name, text] of Object.entries(changed)) await Deno.writeTextFile(`${folder}/${name}`, text);
  };
  await write(files);
  return { folder, write, [Symbol.asyncDispose]: () => Deno.remove(folder, { recursive: true }) };
}

const sources = {
  "a pod": (folder: string, port: number) => ({
    serviceHost: "127.0.0.1",
    servicePort: `${port}`,
    serviceAccountFolder: folder,
  }),
  "a kubeconfig": async (folder: string, port: number) => {
    const kubeconfig = `${folder}/config`;
    const server = `https://127.0.0.1:${port}`;
    await Deno.writeTextFile(
      kubeconfig,
      JSON.stringify({
        "current-context": "it",
        clusters: [{ name: "it", cluster: { server, "certificate-authority": "ca.crt" } }],
        users: [{ name: "it", user: { tokenFile: "token" } }],
        contexts: [{ name: "it", context: { cluster: "it", user: "it" } }],
      }),
    );
    return { kubeconfig };
  },
};

for (const [name, placesOf] of Object.entries(sources)) {
  Deno.test(`${name} follows token and authority when they are rotated`, async () => {
    await using files = await mounted({ token: "first\n", "ca.crt": authority });
    await using server = new TlsServer();
    using cluster = await openCluster({ ...nowhere, ...await placesOf(files.folder, server.port) }, patient);
    const api = new KubernetesApi(cluster);
    assert.equal(await serverVersion(api, patient), "Bearer first");

    await files.write({ token: "second" });
    assert.equal(await serverVersion(api, patient), "Bearer second");

    await files.write({ "ca.crt": authority + otherAuthority });
    assert.equal(await serverVersion(api, patient), "Bearer second");
    await server.rotate();
    assert.equal(await serverVersion(api, patient), "Bearer second");

    await files.write({ "ca.crt": authority });
    await assert.rejects(serverVersion(api, patient), (error: Error) => {
      assert.ok(error instanceof TransientError);
      assert.match(error.message, / at https:\/\/127\.0\.0\.1:\d+: .*certificate/i);
      return true;
    });
    await files.write({ "ca.crt": otherAuthority });
    assert.equal(await serverVersion(api, patient), "Bearer second");
  });

  Deno.test(`${name} that can't be read for a while is tried again, and says what it is about`, async (t) => {
    for (const file of ["token", "ca.crt"]) {
      await t.step(file, async () => {
        await using files = await mounted({ token: "first", "ca.crt": authority });
        await using server = new TlsServer();
        using cluster = await openCluster({ ...nowhere, ...await placesOf(files.folder, server.port) }, patient);
        const api = new KubernetesApi(cluster);
        await Deno.remove(`${files.folder}/${file}`);
        await assert.rejects(serverVersion(api, patient), (error: Error) => {
          assert.ok(error instanceof TransientError);
          assert.match(error.message, new RegExp(`/${file}\\b.*NotFound`));
          return true;
        });
        await files.write({ token: "second", "ca.crt": authority });
        assert.equal(await serverVersion(api, patient), "Bearer second");
      });
    }
  });
}

Deno.test("Cluster.connect() keeps the last client while files don't fit, and closes a replaced one after its use", async () => {
  let tls = { caCerts: [authority] as string[], client: undefined as { cert: string; key: string } | undefined };
  const read = () => Promise.resolve({ server: "https://127.0.0.1", headers: [], tls });
  using cluster = await Cluster.open({ context: "it", read, invalidate: () => {} }, patient);
  const isClosed = (client: Deno.HttpClient) => {
    try {
      client.close();
      return false;
    } catch (error) {
      assert.ok(error instanceof Deno.errors.BadResource);
      return true;
    }
  };
  using first = await cluster.connect(patient);
  tls = { caCerts: [authority], client: { cert: certificates.certificate, key: "half a k" } };
  using same = await cluster.connect(patient);
  assert.equal(same.client, first.client);

  tls = { caCerts: [otherAuthority], client: undefined };
  const second = await cluster.connect(patient);
  assert.notEqual(second.client, first.client);
  tls = { caCerts: [authority], client: undefined };
  using _third = await cluster.connect(patient);
  second[Symbol.dispose]();
  assert.ok(isClosed(second.client));
});
