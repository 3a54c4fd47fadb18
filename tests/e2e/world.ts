/**
 * What every end-to-end case finds: real servers, a target that is off, an operator that may do no more than the base
 * Role permits, Alice, whom it obeys, and an encrypted room of the two.
 *
 * @module
 */

import { join } from "node:path";
import {
  baseRules,
  type Person,
  type ServiceAccount,
  startTestbed,
  type TargetState,
  type Testbed,
} from "../../testbed/mod.ts";
import { Conversation } from "./conversation.ts";
import { type LoggedOptions, OperatorProcess } from "../operator_process.ts";
import { Report } from "./report.ts";

const deployment = "clawdbot";

/** The surroundings of all cases. */
export interface World extends AsyncDisposable {
  /** Servers and people. */
  readonly testbed: Testbed;
  /** What is printed at the end. */
  readonly report: Report;
  /** Someone whom the operator obeys. */
  readonly alice: Person;
  /** Alice's encrypted room with the operator. */
  readonly talk: Conversation;
  /** The operator's user id. */
  readonly operatorId: string;
  /** What must never be seen in a log. */
  readonly secrets: readonly string[];
  /** How the operator is run. */
  readonly options: LoggedOptions;
  /** The ServiceAccount that the operator has. */
  readonly account: ServiceAccount;
  /** Namespace of the target. */
  readonly namespace: string;
  /** The operator that runs now. */
  operator: OperatorProcess;
  /** What the target is, now or as soon as it is as wanted. */
  state(wanted?: (state: TargetState) => boolean): Promise<TargetState>;
  /** Starts the operator again, after it was stopped or killed. */
  startOperator(): Promise<void>;
  /** Everything that the operator has logged. */
  operatorLog(): Promise<string>;
}

/** Starts everything. */
export async function createWorld(): Promise<World> {
  await using resources = new AsyncDisposableStack();
  const testbed = resources.use(await startTestbed());
  const report = new Report();
  const namespace = `clawdbot-${crypto.randomUUID().slice(0, 8)}`;
  await testbed.workloads.createTarget({ namespace, name: deployment });
  const account = await testbed.workloads.serviceAccount(namespace, "openclaw-toggle", baseRules(deployment));

  const alice = await testbed.person("alice");
  const password = `never to be logged ${crypto.randomUUID()}`;
  const { userId: operatorId, localpart } = await testbed.homeserver.register("toggle", password);
  const options: LoggedOptions = {
    environment: {
      MATRIX_HOMESERVER: testbed.homeserver.url,
      MATRIX_USER: localpart,
      MATRIX_PASSWORD: password,
      ALLOWED_USERS: alice.userId,
      DEPLOYMENT_NAME: deployment,
      DEPLOYMENT_NAMESPACE: namespace,
      CRYPTO_STORE_PATH: join(testbed.folder, "store"),
      KUBECONFIG: account.kubeconfig,
      LOG_FORMAT: "json",
      LOG_LEVEL: "debug",
    },
    logFile: join(testbed.folder, "operator.log"),
  };
  const operator = await OperatorProcess.start(options);
  resources.defer(() => world.operator[Symbol.asyncDispose]());
  report.fact(`Ready after ${operator.readyMs.toFixed(0)} ms, the first time (new store, new device).`);
  const world: World = {
    ...{ testbed, report, alice, operatorId, options, account, namespace, operator },
    talk: await Conversation.begin(alice, operatorId),
    secrets: [password, account.token],
    state: (wanted = () => true) => testbed.workloads.until(namespace, deployment, wanted, 10_000),
    startOperator: async () => {
      world.operator = await OperatorProcess.start(options);
    },
    operatorLog: () => Deno.readTextFile(options.logFile),
    [Symbol.asyncDispose]: () => started.disposeAsync(),
  };
  const started = resources.move();
  return world;
}
