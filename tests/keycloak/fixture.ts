/**
 * What every login needs: a Synapse that knows a Keycloak, a cluster, Alice, and an operator with whatever way of logging
 * in. Everything that is logged is kept for the end.
 */

import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { loadYaml, type V1Deployment } from "@kubernetes/client-node";
import { FaultProxy } from "../../testbed/proxy.ts";
import { authority, certificate, privateKey } from "../certificates.ts";
import { baseRules, httpJson, type Keycloak, type Person, startTestbed, type Testbed } from "../../testbed/mod.ts";
import { bodyOf, Conversation } from "../e2e/conversation.ts";
import { type LoggedOptions, OperatorProcess } from "../operator_process.ts";
import { OperatorLog } from "../e2e/trust/log.ts";

/** Variables of the environment. */
export type Environment = Readonly<Record<string, string>>;

/** The servers, Alice, and what operators are made of. */
export class Fixture implements AsyncDisposable {
  readonly testbed: Testbed;
  readonly keycloak: Keycloak;
  /** Whom every operator obeys. */
  readonly alice: Person;
  /** What no log may hold. */
  readonly secrets: Set<string> = new Set();
  /** Logs of all operators. */
  readonly logFiles: string[] = [];
  readonly #proxies = new AsyncDisposableStack();
  #administrator: Promise<string> | undefined;

  private constructor(testbed: Testbed, keycloak: Keycloak, alice: Person) {
    this.testbed = testbed;
    this.keycloak = keycloak;
    this.alice = alice;
  }

  /** Starts everything. */
  static async prepare(): Promise<Fixture> {
    await using resources = new AsyncDisposableStack();
    const testbed = resources.use(await startTestbed(undefined, { keycloak: true }));
    assert.ok(testbed.keycloak);
    const fixture = new Fixture(testbed, testbed.keycloak, await testbed.person("alice"));
    resources.move();
    return fixture;
  }

  /** A user that the homeserver itself knows, with a password. */
  async account(name: string): Promise<{ userId: string; password: string }> {
    const password = this.secret(`password of ${name}, never to be logged ${crypto.randomUUID()}`);
    const { userId } = await this.testbed.homeserver.register(name, password);
    return { userId, password };
  }

  /** The same server by TLS, with a certificate of a private authority. */
  async overTls(url: string): Promise<string> {
    const proxy = await FaultProxy.start({ url }, { cert: certificate, key: privateKey });
    return this.#proxies.use(proxy).url;
  }

  /** That authority's certificate, in a file where the component private-ca puts it, below a folder of this run. */
  async authorityFile(): Promise<string> {
    const component = new URL("../../deploy/components/private-ca/kustomization.yaml", import.meta.url);
    const { patches: [{ patch }] } = loadYaml<{ patches: [{ patch: string }] }>(await Deno.readTextFile(component));
    const { spec } = loadYaml<V1Deployment>(patch);
    const [container] = spec?.template.spec?.containers ?? [];
    const [mount] = container?.volumeMounts ?? [];
    const [variable] = container?.env ?? [];
    assert.deepEqual([variable?.name, variable?.value], ["DENO_CERT", `${mount?.mountPath}/ca.crt`]);
    const file = join(this.testbed.folder, variable?.value ?? "");
    await Deno.mkdir(dirname(file), { recursive: true });
    await Deno.writeTextFile(file, authority);
    return file;
  }

  /** Keeps a text for the search of the logs. */
  secret(text: string): string {
    this.secrets.add(text);
    return text;
  }

  /** Logs in by password, as somebody does who wants a token. */
  async token(name: string, password: string): Promise<string> {
    const body = { type: "m.login.password", identifier: { type: "m.id.user", user: name }, password };
    const { access_token } = await this.request("POST", "/_matrix/client/v3/login", undefined, body);
    return this.secret(access_token);
  }

  /** A token as an administrator makes it, that belongs to no device. */
  async tokenWithoutDevice(userId: string): Promise<string> {
    const path = `/_synapse/admin/v1/users/${encodeURIComponent(userId)}/login`;
    return this.secret((await this.request("POST", path, await this.administrator(), {})).access_token);
  }

  /** Token of an administrator of the homeserver. */
  administrator(): Promise<string> {
    this.#administrator ??= (async () => {
      const password = this.secret(crypto.randomUUID());
      await this.testbed.homeserver.register("administrator", password, { admin: true });
      return await this.token("administrator", password);
    })();
    return this.#administrator;
  }

  /** Asks the homeserver. */
  // deno-lint-ignore no-explicit-any
  async request(method: string, path: string, token: string | undefined, body?: unknown): Promise<any> {
    const authorization = token === undefined ? {} : { authorization: `Bearer ${token}` };
    return await httpJson(method, this.testbed.homeserver.url + path, { ...authorization, body });
  }

  /** An operator with a target of its own; nothing runs yet. */
  async operator(name: string, environment: Environment): Promise<LoggingIn> {
    const { testbed, alice } = this;
    const namespace = `${name}-${crypto.randomUUID().slice(0, 8)}`;
    await testbed.workloads.createTarget({ namespace, name: "clawdbot" });
    const account = await testbed.serviceAccounts.create(namespace, "openclaw-toggle", baseRules("clawdbot"));
    this.secret(account.token);
    const folder = join(testbed.folder, namespace);
    await Deno.mkdir(folder);
    const options: LoggedOptions = {
      environment: {
        MATRIX_HOMESERVER: testbed.homeserver.url,
        ALLOWED_USERS: alice.userId,
        DEPLOYMENT_NAMESPACE: namespace,
        CRYPTO_STORE_PATH: join(folder, "store"),
        KUBECONFIG: account.kubeconfig,
        LOG_FORMAT: "json",
        LOG_LEVEL: "debug",
        ...environment,
      },
      logFile: join(folder, "operator.log"),
    };
    await Deno.writeTextFile(options.logFile, "");
    this.logFiles.push(options.logFile);
    return new LoggingIn(this, options, namespace);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#proxies.disposeAsync();
    await this.testbed[Symbol.asyncDispose]();
  }
}

/** An operator that logs in, perhaps. */
export class LoggingIn implements AsyncDisposable {
  readonly log: OperatorLog;
  readonly options: LoggedOptions;
  readonly #fixture: Fixture;
  readonly #namespace: string;
  #running: OperatorProcess | undefined;
  #talk: Conversation | undefined;

  constructor(fixture: Fixture, options: LoggedOptions, namespace: string) {
    this.#fixture = fixture;
    this.options = options;
    this.#namespace = namespace;
    this.log = new OperatorLog(options.logFile);
  }

  /** Starts it and doesn't wait. */
  start(): void {
    this.#running = new OperatorProcess(this.options);
  }

  /** Waits until it is ready. */
  async untilReady(): Promise<void> {
    await this.#running?.untilReady();
  }

  /** Waits until it ends by itself: exit code, and why in its own words. */
  async ended(): Promise<{ code: number | undefined; reason: string }> {
    const code = await this.#running?.untilEnded();
    const lines = await this.log.lines();
    return { code, reason: lines.findLast(({ level }) => level === "ERROR")?.message ?? "" };
  }

  /** Ends it by SIGTERM. Returns its exit code. */
  async terminate(): Promise<number | undefined> {
    return await this.#running?.stop();
  }

  /** Alice switches the target on and off, in an encrypted room. */
  async obeys(userId: string): Promise<void> {
    this.#talk ??= await Conversation.begin(this.#fixture.alice, userId);
    const { workloads } = this.#fixture.testbed;
    for (const [command, answer, replicas] of [["start", /is on/, 1], ["stop", /is off/, 0]] as const) {
      const said = await this.#talk.ask(command);
      assert.match(bodyOf(said.answer), answer);
      assert.equal(said.answer.how, "decrypted");
      await workloads.until(this.#namespace, "clawdbot", (state) => state.replicas === replicas, 30_000);
    }
  }

  /** Devices with keys that an account has. */
  async devices(userId: string): Promise<string[]> {
    const { device_keys } = await this.#fixture.alice.request("POST", "/keys/query", { device_keys: { [userId]: [] } });
    return Object.keys(device_keys[userId] ?? {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#running?.[Symbol.asyncDispose]();
  }
}
