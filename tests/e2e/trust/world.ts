/**
 * Environment of the trust cases: real servers, an operator, people whom it obeys with two kinds of phones, a stranger,
 * and the homeserver's administrator.
 */

import { join } from "node:path";
import { baseRules, startTestbed, type TargetState, type Testbed } from "../../../testbed/mod.ts";
import type { Phone } from "../../../testbed/phone.ts";
import { PhoneHost } from "../../../testbed/phone_host.ts";
import { type LoggedOptions, OperatorProcess } from "../../operator_process.ts";
import { Administrator } from "./administrator.ts";
import { OperatorLog } from "./log.ts";
import { type Client, Room } from "./people.ts";

const deployment = "clawdbot";
const namespace = "trust";

/** Environment of all cases. */
export interface World extends AsyncDisposable {
  readonly testbed: Testbed;
  /** Host of the mautrix-go phones. */
  readonly host: PhoneHost;
  /** The homeserver's administrator. */
  readonly administrator: Administrator;
  /** How the operator is run. */
  readonly options: LoggedOptions;
  /** The operator's user ID. */
  readonly operatorId: string;
  /** The operator's log. */
  readonly log: OperatorLog;
  /** The current operator process. */
  operator: OperatorProcess;
  /** Allowed, with an identity. mautrix-go. */
  readonly alice: Phone;
  /** Allowed, with an identity that is replaced later. mautrix-go. */
  readonly bob: Phone;
  /** Allowed, with an identity. The device is recreated later. mautrix-go. */
  readonly carol: Phone;
  /** Allowed, without an identity. matrix-nio. */
  readonly dave: Client;
  /** Like Alice, for an attack on the account. mautrix-go. */
  readonly erin: Phone;
  /** Like Dave, for an attack on the account. matrix-nio. */
  readonly frank: Client;
  /** Like Alice, for an attack on the device. mautrix-go. */
  readonly grace: Phone;
  /** Allowed, at first without an identity. mautrix-go. */
  readonly heidi: Phone;
  /** Not allowed. mautrix-go. */
  readonly mallory: Phone;
  /** Strings that must never appear in a log. */
  readonly secrets: Set<string>;
  /** Message texts that must never appear in a log. */
  readonly bodies: Set<string>;
  /** Log files of all operators in this run. */
  readonly logFiles: Set<string>;
  /** Creates an account. Its password is registered as a secret. */
  account(name: string): Promise<{ userId: string; localpart: string; password: string }>;
  /**
   * Logs in another device of an account (localpart or user ID), optionally with another password than the original
   * one.
   */
  login(name: string, options?: { deviceId?: string; password?: string }): Promise<Phone>;
  /** Returns a new recovery key. */
  newRecoveryKey(): Promise<string>;
  /** Returns a unique text. */
  phrase(): string;
  /** Changes someone's devices and waits until the operator has queried keys. */
  untilAsked(change: () => Promise<void>): Promise<void>;
  /** Returns the target's state, once it satisfies `wanted`. */
  state(wanted?: (state: TargetState) => boolean): Promise<TargetState>;
  /** Turns the target off by chat, and waits until no pod is left. */
  switchOff(): Promise<void>;
  /** Restarts the operator, optionally with other variables. */
  startOperator(environment?: Readonly<Record<string, string>>): Promise<void>;
  /**
   * Starts another operator and doesn't wait. It logs as text by default.
   *
   * @param environment variables besides those of the world's operator; an empty one counts as unset
   */
  run(environment: Readonly<Record<string, string>>, args?: readonly string[], logFile?: string): OperatorProcess;
}

/** Starts everything. */
export async function createWorld(): Promise<World> {
  await using resources = new AsyncDisposableStack();
  const testbed = resources.use(await startTestbed());
  const host = resources.use(await PhoneHost.start(testbed.homeserver.url, join(testbed.folder, "mautrix.log")));
  const { workloads, serviceAccounts, homeserver } = testbed;
  await workloads.createTarget({ namespace, name: deployment });
  const service = await serviceAccounts.create(namespace, "openclaw-toggle", baseRules(deployment));
  const administrator = await Administrator.appear(testbed);

  const secrets = new Set([service.token]);
  const bodies = new Set<string>();
  const accounts = new Map<string, { userId: string; localpart: string; password: string }>();
  const account = async (name: string) => {
    const password = `never to be logged ${crypto.randomUUID()}`;
    secrets.add(password);
    const made = { ...await homeserver.register(name, password), password };
    accounts.set(name, made);
    return made;
  };
  const login = async (name: string, options: { deviceId?: string; password?: string } = {}) => {
    const user = name.startsWith("@") ? { localpart: name, password: "" } : accounts.get(name) ?? await account(name);
    const phone = await host.login(user.localpart, options.password ?? user.password, options.deviceId);
    secrets.add(phone.accessToken);
    return phone;
  };
  const toggle = await account("toggle");
  const [alice, bob, carol, erin, grace, heidi, mallory, dave, frank] = await Promise.all([
    login("alice"),
    login("bob"),
    login("carol"),
    login("erin"),
    login("grace"),
    login("heidi"),
    login("mallory"),
    testbed.person("dave"),
    testbed.person("frank"),
  ]);
  await Promise.all([alice, bob, carol, erin, grace, mallory].map((phone) => phone.makeIdentity()));

  const storeKey = crypto.getRandomValues(new Uint8Array(32)).toBase64();
  secrets.add(storeKey);
  const options: LoggedOptions = {
    environment: {
      MATRIX_HOMESERVER: homeserver.url,
      MATRIX_USER: toggle.localpart,
      MATRIX_PASSWORD: toggle.password,
      ALLOWED_USERS: [alice, bob, carol, dave, erin, frank, grace, heidi].map(({ userId }) => userId).join(","),
      DEPLOYMENT_NAME: deployment,
      DEPLOYMENT_NAMESPACE: namespace,
      CRYPTO_STORE_PATH: join(testbed.folder, "store"),
      CRYPTO_STORE_KEY: storeKey,
      KUBECONFIG: service.kubeconfig,
      LOG_FORMAT: "json",
      LOG_LEVEL: "debug",
    },
    logFile: join(testbed.folder, "operator.log"),
  };
  const operator = await OperatorProcess.start(options);
  resources.defer(() => world.operator[Symbol.asyncDispose]());
  const state = (wanted: (state: TargetState) => boolean = () => true) =>
    workloads.until(namespace, deployment, wanted, 10_000);
  const world: World = {
    ...{ testbed, host, administrator, options, operatorId: toggle.userId, operator },
    ...{ alice, bob, carol, dave, erin, frank, grace, heidi, mallory, secrets, bodies, account, login, state },
    log: new OperatorLog(options.logFile),
    logFiles: new Set([options.logFile]),
    newRecoveryKey: async () => {
      const key = await host.makeRecoveryKey();
      secrets.add(key).add(key.replaceAll(" ", ""));
      return key;
    },
    phrase: () => {
      const phrase = `nobody's business ${crypto.randomUUID()}`;
      bodies.add(phrase);
      return phrase;
    },
    untilAsked: async (change) => {
      const count = async () =>
        (await Deno.readTextFile(options.logFile)).match(/answered 200: POST [^"]*\/keys\/query/g)?.length ?? 0;
      const before = await count();
      await change();
      const deadline = performance.now() + 10_000;
      while (await count() === before) {
        if (performance.now() > deadline) throw new Error("the operator has not asked for keys within 10 s");
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
    switchOff: async () => {
      // By chat, because the operator would report a change made by someone else.
      const room = await Room.create(alice, world.operatorId, []);
      await room.ask("stop");
      await state(({ replicas, current }) => replicas === 0 && current === 0);
    },
    startOperator: async (environment = {}) => {
      world.operator = await OperatorProcess.start({
        ...options,
        environment: { ...options.environment, ...environment },
      });
    },
    run: (environment, args = [], logFile = join(testbed.folder, `run-${crypto.randomUUID()}.log`)) => {
      world.logFiles.add(logFile);
      return new OperatorProcess({
        environment: { ...options.environment, LOG_FORMAT: "text", ...environment },
        args,
        logFile,
      });
    },
    [Symbol.asyncDispose]: () => started.disposeAsync(),
  };
  const started = resources.move();
  return world;
}
