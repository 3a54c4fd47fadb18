/**
 * An account that is taken over: the Python operator uses it in a room with Alice and leaves its folder behind.
 *
 * @module
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import {
  baseRules,
  type Content,
  type Person,
  PythonOperator,
  type SeenEvent,
  type ServiceAccount,
  type Testbed,
} from "../../../testbed/mod.ts";
import { canonicalJson } from "../../../lib/json.ts";
import { Conversation } from "../conversation.ts";

/** The Deployment that is turned on and off. */
export const target = "clawdbot";

/** Versions of the Python operator, by the format of its pickles. */
export const versions = { libolm: "0.0.19", vodozemac: "0.0.19-vodozemac" } as const;

/** How the Python operator ends. `overtaken`: only after the new one has started, as in a rolling update. */
export type Ending = "stopped" | "killed" | "overtaken";

/** An account that is taken over. */
export class Move implements AsyncDisposable {
  /** Name in reports. */
  readonly name: string;
  /** Namespace of the target. */
  readonly namespace: string;
  /** Folder of the store. */
  readonly folder: string;
  /** User ID of the operator. */
  readonly operatorId: string;
  /** A user whom it obeys. */
  readonly alice: Person;
  /** Alice's encrypted room with it. */
  readonly talk: Conversation;
  /** Variables of the Python operator, except for the path of its store. */
  readonly environment: Readonly<Record<string, string>>;
  /** The operator's ServiceAccount. */
  readonly account: ServiceAccount;
  readonly #python: PythonOperator;

  private constructor(
    parts: Pick<Move, "name" | "namespace" | "folder" | "operatorId" | "alice" | "talk" | "environment" | "account">,
    python: PythonOperator,
  ) {
    this.name = parts.name;
    this.namespace = parts.namespace;
    this.folder = parts.folder;
    this.operatorId = parts.operatorId;
    this.alice = parts.alice;
    this.talk = parts.talk;
    this.environment = parts.environment;
    this.account = parts.account;
    this.#python = python;
  }

  /** Starts the Python operator and waits until it is in a room with Alice. */
  static async begin(testbed: Testbed, name: string, python: string): Promise<Move> {
    const { workloads, serviceAccounts, homeserver, cluster } = testbed;
    const namespace = `takeover-${name}`;
    await workloads.createTarget({ namespace, name: target });
    const account = await serviceAccounts.create(namespace, "toggle", baseRules(target));
    const alice = await testbed.person(`alice-${name}`);
    const password = crypto.randomUUID();
    const { userId: operatorId, localpart } = await homeserver.register(`toggle-${name}`, password);
    const folder = join(testbed.folder, `store-${name}`);
    const environment = {
      MATRIX_HOMESERVER: homeserver.url,
      MATRIX_USER: localpart,
      MATRIX_PASSWORD: password,
      ALLOWED_USERS: alice.userId,
      DEPLOYMENT_NAME: target,
      DEPLOYMENT_NAMESPACE: namespace,
    };
    const operator = new PythonOperator({
      python,
      environment: { ...environment, CRYPTO_STORE_PATH: folder },
      serviceAccountFolder: account.folder,
      kubernetes: cluster.url,
      logFile: join(testbed.folder, `python-${name}.log`),
    });
    await using resources = new AsyncDisposableStack();
    resources.use(operator);
    await operator.untilReady();
    const talk = await Conversation.begin(alice, operatorId);
    resources.move();
    return new Move({ name, namespace, folder, operatorId, alice, talk, environment, account }, operator);
  }

  /** Sends a text and waits until the Python operator answers it. Its answers are not replies. */
  async askPython(text: string, words: RegExp): Promise<void> {
    using seen = this.alice.watch(this.talk.roomId);
    await this.talk.send(text);
    const isAnswer = ({ sender, content }: SeenEvent) =>
      sender === this.operatorId && words.test(String(content["body"]));
    assert.equal((await seen.first("the Python operator's answer", isAnswer)).how, "decrypted");
  }

  /** Ends the Python operator if it is still running. */
  async endPython(how: Ending): Promise<void> {
    if (!this.#python.child.running) return;
    if (how === "killed") await this.#python.child.kill();
    else await this.#python.child.stop();
  }

  /** Ends the Python operator if it is still running. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.endPython("killed");
  }
}

/** Returns a user's devices as the homeserver lists them. */
export async function devicesOf(person: Person, userId: string): Promise<Readonly<Record<string, Content>>> {
  const answer = await person.request("POST", "/keys/query", { device_keys: { [userId]: [] } });
  return answer.device_keys[userId];
}

/** Returns a device's own data, byte for byte, without what the homeserver and the account's identity add. */
export function ownPart(device: Content | undefined, userId: string, deviceId: string): string {
  const { unsigned: _, signatures, ...keys } = device ?? {};
  return canonicalJson({ keys, signature: signatures?.[userId]?.[`ed25519:${deviceId}`] });
}
