/**
 * Environment of all end-to-end cases: real servers, a target that is off, an operator with the base Role, Alice, whom
 * it obeys, and an encrypted room of both.
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

/** Environment of all cases. */
export interface World extends AsyncDisposable {
  /** Servers and people. */
  readonly testbed: Testbed;
  /** Printed at the end. */
  readonly report: Report;
  /** A user whom the operator obeys. */
  readonly alice: Person;
  /** Alice's encrypted room with the operator. */
  readonly talk: Conversation;
  /** The operator's user ID. */
  readonly operatorId: string;
  /** Strings that must never appear in a log. */
  readonly secrets: readonly string[];
  /** How the operator is run. */
  readonly options: LoggedOptions;
  /** The operator's ServiceAccount. */
  readonly account: ServiceAccount;
  /** Namespace of the target. */
  readonly namespace: string;
  /** The current operator process. */
  operator: OperatorProcess;
  /** Returns the target's state, once it satisfies `wanted`. */
  state(wanted?: (state: TargetState) => boolean): Promise<TargetState>;
  /** Restarts the operator after it was stopped or killed. */
  startOperator(): Promise<void>;
  /** Returns the operator's whole log. */
  operatorLog(): Promise<string>;
}

/** Starts everything. */
export async function createWorld(): Promise<World> {
  await using resources = new AsyncDisposableStack();
  const testbed = resources.use(await startTestbed());
  const report = new Report();
  const namespace = `clawdbot-${crypto.randomUUID().slice(0, 8)}`;
  await testbed.workloads.createTarget({ namespace, name: deployment });
  const account = await testbed.serviceAccounts.create(namespace, "openclaw-toggle", baseRules(deployment));

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
