/** The connection test as a program, against good servers and each that is not. */

import assert from "node:assert/strict";
import { join } from "node:path";
import project from "../deno.json" with { type: "json" };
import { HomeserverClient } from "../lib/session/mod.ts";
import { openStore } from "../lib/store/mod.ts";
import { Homeserver } from "../sandbox/homeserver/mod.ts";
import { KubernetesSandbox } from "../sandbox/kubernetes/mod.ts";
import { FaultProxy } from "../testbed/proxy.ts";
import { authority, certificate, privateKey } from "./certificates.ts";
import { baseRole, extendedRole } from "./scaler/at_sandbox.ts";

const root = join(import.meta.dirname ?? ".", "..");

/** What it said. */
interface Output {
  readonly code: number;
  /** What is to be done, on a line of its own, is put behind an arrow. */
  readonly lines: readonly string[];
  readonly ms: number;
}

/** Servers where all is well, until something is done to them, and a folder. */
class Fixture implements AsyncDisposable {
  readonly homeserver = new Homeserver();
  readonly kubernetes: KubernetesSandbox;
  readonly folder: string;

  private constructor(kubernetes: KubernetesSandbox, folder: string) {
    this.kubernetes = kubernetes;
    this.folder = folder;
    this.homeserver.register("toggle", "secret");
    kubernetes.create({ namespace: "agents", name: "clawdbot" });
  }

  static async make(): Promise<Fixture> {
    return new Fixture(await KubernetesSandbox.start(), await Deno.makeTempDir());
  }

  /** Runs a task of deno.json, with a kubeconfig of somebody who holds a Role. */
  async run(
    environment: Readonly<Record<string, string>> = {},
    rules = extendedRole,
    task = "conntest",
  ): Promise<Output> {
    const kubeconfig = join(this.folder, "kubeconfig");
    await this.kubernetes.writeKubeconfig(kubeconfig, this.kubernetes.token("ops", rules));
    const command = (project.tasks as Record<string, string>)[task] ?? "";
    const begin = performance.now();
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [...command.split(" ").slice(1), ...task === "start" ? ["--conntest"] : []],
      cwd: root,
      clearEnv: true,
      env: {
        ...Object.fromEntries(Object.entries(Deno.env.toObject()).filter(([name]) => /^(HOME|PATH|DENO_)/.test(name))),
        MATRIX_HOMESERVER: this.homeserver.url,
        MATRIX_USER: "toggle",
        MATRIX_PASSWORD: "secret",
        ALLOWED_USERS: "@alice:localhost",
        DEPLOYMENT_NAMESPACE: "agents",
        CRYPTO_STORE_PATH: join(this.folder, "store"),
        KUBECONFIG: kubeconfig,
        ...environment,
      },
    }).output();
    const text = new TextDecoder();
    assert.equal(text.decode(stderr), "", "all goes to one stream");
    return {
      code,
      lines: text.decode(stdout).trimEnd().replaceAll(/\n {4,}/g, " → ").split("\n"),
      ms: performance.now() - begin,
    };
  }

  /** Devices that the account has. */
  async devices(): Promise<string[]> {
    using requests = new HomeserverClient(this.homeserver.url);
    const never = new AbortController().signal;
    const login = { type: "m.login.password", identifier: { type: "m.id.user", user: "toggle" }, password: "secret" };
    const path = "/_matrix/client/v3";
    const { json } = await requests.send({ method: "POST", path: `${path}/login`, body: login }, never);
    requests.accessToken = String(json["access_token"]);
    const listed = await requests.send({ method: "GET", path: `${path}/devices` }, never);
    await requests.send({ method: "POST", path: `${path}/logout`, body: {} }, never);
    const ids = (listed.json["devices"] as { device_id: string }[]).map(({ device_id }) => device_id);
    return ids.filter((id) => id !== json["device_id"]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.homeserver[Symbol.asyncDispose]();
    await this.kubernetes[Symbol.asyncDispose]();
    await Deno.remove(this.folder, { recursive: true });
  }
}

/** A state of things, and what is to be said of it: each line of these forms, in this order, among others. */
interface Row {
  readonly name: string;
  readonly run: (fixture: Fixture) => Promise<Output>;
  readonly code: number;
  readonly says: readonly RegExp[];
  /** Devices that are there afterwards, until the next test; none if left out. */
  readonly leaves?: readonly string[];
}

const withRole = (without: string) => extendedRole.filter(({ verbs }) => !verbs.includes(without));

const rows: readonly Row[] = [
  {
    name: "all is well",
    run: (fixture) => fixture.run(),
    code: 0,
    says: [
      /^✔ configuration +complete; allowed users: @alice:localhost$/,
      /^✔ homeserver +http:\S+ \(sandbox 1, spec v1\.\d+\)$/,
      /^✔ clock +within a minute of the homeserver's$/,
      /^✔ login +@toggle:localhost, device \w+ \(logged out again\)$/,
      /^✔ crypto store +.*store: writable and not in use$/,
      /^✔ kubernetes +http:\S+ \(v1\.\S+, context \S+, user ops\)$/,
      /^✔ target +agents\/clawdbot: 0\/0 ready$/,
      /^✔ can patch deployments\/scale +deployments\.apps\/scale "clawdbot" .*your own permissions, not the/,
      /^✔ can create events +/,
    ],
  },
  {
    name: "the base Role only",
    run: (fixture) => fixture.run({}, baseRole),
    code: 0,
    says: [
      /^✔ can patch deployments\/scale/,
      /^– can watch deployments +skipped: not allowed .*; optional, see deploy\/components\/extended$/,
      /^– can list pods +/,
      /^– can create events +/,
    ],
  },
  {
    name: "a wrong configuration",
    run: (fixture) => fixture.run({ ALLOWED_USERS: "alice", MATRIX_USER: "" }),
    code: 2,
    says: [
      /^✘ configuration +MATRIX_USER: not set/,
      /^✘ configuration +ALLOWED_USERS: not a full user ID \(got "alice"\); use @/,
    ],
  },
  {
    name: "placeholders",
    run: (fixture) => fixture.run({ ALLOWED_USERS: "@alice:localhost,@you:example.org" }),
    code: 0,
    says: [
      /^! placeholders +from the example: ALLOWED_USERS: @you:example\.org → put your own values there$/,
      /^✔ login/,
    ],
  },
  {
    name: "a name that is nearly ours",
    run: (fixture) => fixture.run({ ALLOWED_USER: "@bob:localhost" }),
    code: 0,
    says: [/^! variables +ALLOWED_USER: unknown variable; ALLOWED_USERS is set and counts$/, /^✔ login/],
  },
  {
    name: "a clock that is wrong",
    run: async (fixture) => {
      await using proxy = await FaultProxy.start(fixture.homeserver);
      const date = new Date(Date.now() + 180_000).toUTCString();
      await proxy.setFault({
        kind: "forge",
        when: ({ path }) => path.endsWith("/versions"),
        forge: async (_, ask) => {
          const answer = await ask();
          return { ...answer, headers: { ...answer.headers, date } };
        },
      });
      return await fixture.run({ MATRIX_HOMESERVER: proxy.url });
    },
    code: 0,
    says: [/^! clock +3 min behind the homeserver's → set the clock by NTP/, /^✔ login/],
  },
  {
    name: "a homeserver that tells its software to nobody",
    run: async (fixture) => {
      using _hidden = fixture.homeserver.fault({ path: /federation/, answer: { status: 404 } });
      return await fixture.run();
    },
    code: 0,
    says: [/^✔ homeserver +http:\S+ \(spec v1\.\d+\)$/],
  },
  {
    name: "a proxy that is silent about the homeserver's software",
    run: async (fixture) => {
      using _hidden = fixture.homeserver.fault({ path: /federation/, delayMs: Infinity });
      return await fixture.run();
    },
    code: 0,
    says: [/^✔ homeserver +http:\S+ \(spec v1\.\d+\)$/, /^✔ clock/, /^✔ login/],
  },
  {
    name: "a private authority that isn't trusted",
    run: async (fixture) => {
      await using proxy = await FaultProxy.start(fixture.homeserver, { cert: certificate, key: privateKey });
      return await fixture.run({ MATRIX_HOMESERVER: proxy.url });
    },
    code: 1,
    says: [/^✘ homeserver +.*: the certificate isn't trusted: UnknownIssuer → if an authority of your own .*DENO_CERT/],
  },
  {
    name: "a private authority that is trusted",
    run: async (fixture) => {
      await using proxy = await FaultProxy.start(fixture.homeserver, { cert: certificate, key: privateKey });
      const file = join(fixture.folder, "ca.crt");
      await Deno.writeTextFile(file, authority);
      return await fixture.run({ MATRIX_HOMESERVER: proxy.url, DENO_CERT: file });
    },
    code: 0,
    says: [/^✔ homeserver +https:/, /^✔ login/],
  },
  {
    name: "a Role that names another target",
    run: (fixture) => fixture.run({ DEPLOYMENT_NAME: "other" }),
    code: 1,
    says: [
      /^✘ target +.*"other".* → the Role in namespace "agents" names "clawdbot", not "other": correct DEPLOYMENT_NAME/,
    ],
  },
  {
    name: "credentials without rights",
    run: (fixture) => fixture.run({}, []),
    code: 1,
    says: [
      /^✔ kubernetes/,
      /^✘ target +.* → these credentials have no rights on deployments in namespace "agents": apply Role/,
    ],
  },
  {
    name: "no homeserver there",
    run: async (fixture) => {
      await fixture.homeserver.offline();
      const said = await fixture.run();
      fixture.homeserver.online();
      return said;
    },
    code: 1,
    says: [
      /^✘ homeserver +.*refused.* → check MATRIX_HOMESERVER/,
      /^– login +skipped: needs homeserver$/,
      /^✔ kubernetes +/,
    ],
  },
  {
    name: "something else there",
    run: (fixture) => fixture.run({ MATRIX_HOMESERVER: fixture.kubernetes.url }),
    code: 1,
    says: [/^✘ homeserver +.* → check MATRIX_HOMESERVER/],
  },
  {
    name: "a homeserver that hangs",
    run: async (fixture) => {
      using _hanging = fixture.homeserver.fault({ path: /versions$/, delayMs: Infinity });
      return await fixture.run();
    },
    code: 1,
    says: [
      /^✘ homeserver +no answer from http:\S+ within 10 s → check MATRIX_HOMESERVER/,
      /^– login +skipped: needs homeserver$/,
      /^✔ target +/,
    ],
  },
  {
    name: "a wrong password",
    run: (fixture) => fixture.run({ MATRIX_PASSWORD: "wrong" }),
    code: 1,
    says: [/^✘ login +.*refuses user or password; see MATRIX_USER, MATRIX_PASSWORD/],
  },
  {
    name: "a token that is not known",
    run: (fixture) => fixture.run({ AUTH_METHOD: "token", MATRIX_ACCESS_TOKEN: "unknown", MATRIX_PASSWORD: "" }),
    code: 1,
    says: [/^✘ login +.*token/],
  },
  {
    name: "a login that hangs",
    run: async (fixture) => {
      using _hanging = fixture.homeserver.fault({ method: "POST", path: /login$/, delayMs: Infinity });
      return await fixture.run();
    },
    // The server has logged in after all, and how to log out was in the answer that nobody waited for.
    leaves: ["OPENCLAWTOGGLETEST"],
    code: 1,
    says: [/^✘ login +no answer from http:\S+ within 10 s/, /^✔ kubernetes +/],
  },
  {
    name: "no place for the store",
    run: async (fixture) => {
      await Deno.writeTextFile(join(fixture.folder, "file"), "");
      return await fixture.run({ CRYPTO_STORE_PATH: join(fixture.folder, "file", "store") });
    },
    code: 1,
    says: [/^✘ crypto store +Cannot .* → check CRYPTO_STORE_PATH/, /^✔ kubernetes +/],
  },
  {
    name: "the default place of the store, outside a cluster",
    run: (fixture) => fixture.run({ CRYPTO_STORE_PATH: "" }),
    code: 0,
    says: [/^– crypto store +skipped: \/data\/crypto_store is a path in a pod, and this is not one$/],
  },
  {
    name: "a store that an operator holds",
    run: async (fixture) => {
      const folder = join(fixture.folder, "store");
      await using _store = await openStore({ folder, holder: { host: "here", pid: 7 } });
      return await fixture.run();
    },
    code: 0,
    says: [/^✔ crypto store +.* in use by a running operator \(host here, pid 7, since \d{4}-/],
  },
  {
    name: "no cluster",
    run: (fixture) => fixture.run({ KUBECONFIG: join(fixture.folder, "none") }),
    code: 1,
    says: [/^✘ kubernetes +KUBECONFIG: can't use .*: no such file/, /^– target +skipped: needs kubernetes$/],
  },
  {
    name: "a cluster that hangs",
    run: (fixture) => {
      fixture.kubernetes.fault({ effect: "silence" });
      return fixture.run();
    },
    code: 1,
    says: [/^✔ login +/, /^✘ kubernetes +no answer from http:\S+ within 10 s → check KUBECONFIG/],
  },
  {
    name: "a kubeconfig that wants to run a program, where none may be run",
    run: async (fixture) => {
      const path = join(fixture.folder, "exec");
      const user = { exec: { apiVersion: "client.authentication.k8s.io/v1", command: "cloud-login" } };
      await Deno.writeTextFile(path, JSON.stringify(kubeconfig(fixture.kubernetes.url, user)));
      return await fixture.run({ KUBECONFIG: path }, extendedRole, "start");
    },
    code: 1,
    says: [/^✘ kubernetes +.* logs in by running "cloud-login", which this program may not do; `deno task conntest`/],
  },
  {
    name: "a token that the cluster refuses",
    run: async (fixture) => {
      const path = join(fixture.folder, "refused");
      await Deno.writeTextFile(path, JSON.stringify(kubeconfig(fixture.kubernetes.url, { token: "wrong" })));
      return await fixture.run({ KUBECONFIG: path });
    },
    code: 1,
    says: [/^✘ kubernetes +.* refused the credentials of sandbox: they are wrong or have expired → check KUBECONFIG/],
  },
  {
    name: "no such target",
    run: (fixture) => fixture.run({ DEPLOYMENT_NAME: "other" }, [{ resources: ["*"], verbs: ["*"] }]),
    code: 1,
    says: [/^✘ target +.*"other".*not found → check TARGETS, or DEPLOYMENT_NAME/],
  },
  {
    name: "a permission that is missing",
    run: (fixture) => fixture.run({}, withRole("patch")),
    code: 1,
    says: [
      /^✘ can patch deployments\/scale +not allowed: patch .* → see DEPLOYMENT_NAME or TARGETS, and apply the Role of deploy\/base/,
    ],
  },
];

function kubeconfig(server: string, user: unknown): unknown {
  return {
    clusters: [{ name: "sandbox", cluster: { server } }],
    users: [{ name: "user", user }],
    contexts: [{ name: "sandbox", context: { cluster: "sandbox", user: "user" } }],
    "current-context": "sandbox",
  };
}

Deno.test("conntest says what is found and how to mend it, hangs never, and leaves nothing behind", async (t) => {
  const transcript: string[] = [];
  const check = async ({ name, run, code, says, leaves = [] }: Row): Promise<void> => {
    await using fixture = await Fixture.make();
    const said = await run(fixture);
    const seconds = (said.ms / 1_000).toFixed(1);
    transcript.push(`${name}: exit ${said.code} after ${seconds} s`, ...said.lines.map((line) => `  ${line}`));
    assert.equal(said.code, code, said.lines.join("\n"));
    let from = 0;
    for (const form of says) {
      const at = said.lines.findIndex((line, index) => index >= from && form.test(line));
      assert.ok(at >= 0, `${form} is not in\n${said.lines.join("\n")}`);
      from = at + 1;
    }
    const problems = said.lines.filter((line) => line.startsWith("✘") && !line.startsWith("✘ configuration"));
    assert.ok(problems.every((line) => line.includes(" → ")), "each problem has its cure");
    assert.deepEqual(await fixture.devices(), leaves);
    const left = Array.from(Deno.readDirSync(fixture.folder), (entry) => entry.name);
    assert.equal(left.includes("store"), name.includes("operator holds"));
    if (leaves.length === 0) return;
    await fixture.run();
    assert.deepEqual(await fixture.devices(), []);
  };
  // Three at a time: some wait for a deadline, the others take this machine's time.
  const waiting = [...rows];
  const results = new Map(rows.map(({ name }) => [name, Promise.withResolvers<void>()]));
  const work = async (): Promise<void> => {
    for (let row = waiting.shift(); row !== undefined; row = waiting.shift()) {
      const result = results.get(row.name);
      await check(row).then(result?.resolve, result?.reject);
    }
  };
  const done = Promise.all([work(), work(), work()]);
  for (const { promise } of results.values()) promise.catch(() => {});
  for (const { name } of rows) await t.step(name, () => results.get(name)?.promise);
  await done;
  console.log(transcript.join("\n"));
  await t.step("docs/troubleshooting.md has a remedy for each problem", async () => {
    const readme = await Deno.readTextFile(join(root, "docs", "troubleshooting.md"));
    const table = /<!-- troubleshooting -->([^]*)<!-- \/troubleshooting -->/.exec(readme)?.[1] ?? "";
    const told = [...table.matchAll(/^\| `([^`]+)`/gm)].map(([, name = ""]) => name);
    const seen = transcript.filter((line) => line.startsWith("  ✘ ")).map((line) => line.slice(4));
    assert.deepEqual(seen.filter((line) => !told.some((name) => line.startsWith(name))), []);
    assert.deepEqual(told.filter((name) => !seen.some((line) => line.startsWith(name))), []);
  });
});
