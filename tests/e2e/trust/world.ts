/**
 * What the cases about trust find: real servers, an operator, people whom it obeys on phones of two kinds, a stranger,
 * and whoever runs the homeserver.
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

/** The surroundings of all cases. */
export interface World extends AsyncDisposable {
  /** Servers. */
  readonly testbed: Testbed;
  /** Where mautrix-go's phones are. */
  readonly host: PhoneHost;
  /** Whoever runs the homeserver. */
  readonly administrator: Administrator;
  /** How the operator is run. */
  readonly options: LoggedOptions;
  /** The operator's user id. */
  readonly operatorId: string;
  /** The operator's log. */
  readonly log: OperatorLog;
  /** The operator that runs now. */
  operator: OperatorProcess;
  /** Obeyed; has an identity. The phone runs mautrix-go. */
  readonly alice: Phone;
  /** Obeyed; has an identity, until it is replaced. mautrix-go. */
  readonly bob: Phone;
  /** Obeyed; has an identity, until the device is made anew. mautrix-go. */
  readonly carol: Phone;
  /** Obeyed; has no identity. matrix-nio. */
  readonly dave: Client;
  /** As Alice, for an attack on the account. mautrix-go. */
  readonly erin: Phone;
  /** As Dave, for an attack on the account. matrix-nio. */
  readonly frank: Client;
  /** As Alice, for an attack on the device. mautrix-go. */
  readonly grace: Phone;
  /** Obeyed; has no identity at first. mautrix-go. */
  readonly heidi: Phone;
  /** Not obeyed. mautrix-go. */
  readonly mallory: Phone;
  /** What must never be seen in a log. */
  readonly secrets: Set<string>;
  /** Texts of messages that must never be seen in a log. */
  readonly bodies: Set<string>;
  /** Log files of all operators of this run. */
  readonly logFiles: Set<string>;
  /** Makes an account. The password is a secret. */
  account(name: string): Promise<{ userId: string; localpart: string; password: string }>;
  /** Logs in on a further device of an account (name or user id), perhaps with another password than the first. */
  login(name: string, options?: { deviceId?: string; password?: string }): Promise<Phone>;
  /** A recovery key that nobody else has. */
  newRecoveryKey(): Promise<string>;
  /** A text that nobody else says. */
  phrase(): string;
  /** Changes somebody's devices, and waits until the operator has asked the homeserver for keys. */
  untilAsked(change: () => Promise<void>): Promise<void>;
  /** What the target is, now or as soon as it is as wanted. */
  state(wanted?: (state: TargetState) => boolean): Promise<TargetState>;
  /** Switches the target off behind the operator's back. */
  switchOff(): Promise<void>;
  /** Starts the operator again, perhaps with other variables. */
  startOperator(environment?: Readonly<Record<string, string>>): Promise<void>;
  /**
   * Starts another operator, and doesn't wait. Its log is text unless told otherwise.
   *
   * @param environment variables besides those of the world's operator; an empty one is as good as none
   */
  run(environment: Readonly<Record<string, string>>, args?: readonly string[], logFile?: string): OperatorProcess;
}

/** Starts everything. */
export async function createWorld(): Promise<World> {
  await using resources = new AsyncDisposableStack();
  const testbed = resources.use(await startTestbed());
  const host = resources.use(await PhoneHost.start(testbed.homeserver.url, join(testbed.folder, "mautrix.log")));
  const { workloads, homeserver } = testbed;
  await workloads.createTarget({ namespace, name: deployment });
  const service = await workloads.serviceAccount(namespace, "openclaw-toggle", baseRules(deployment));
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
      // By chat: the operator tells of what others change.
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
