/**
 * The process that hosts the phones of `phone.ts`. It uses mautrix-go, a third implementation of Matrix's encryption
 * besides the operator's and matrix-nio's. Its sources are in `mautrix/`.
 *
 * @module
 */

import { type Login, Phone, type Step } from "./phone.ts";
import { phoneProgram } from "./phone_program.ts";
import { Child } from "./process.ts";
import type { Content, SeenEvent } from "./watch.ts";

type Line =
  | { readonly person: string; readonly event: SeenEvent }
  | { readonly person: string; readonly verification: Step }
  | { readonly id: number; readonly result?: unknown; readonly error?: string };

/** The process that hosts the phones. */
export class PhoneHost implements AsyncDisposable {
  readonly #child: Child;
  readonly #homeserver: string;
  readonly #phones = new Map<string, Phone>();
  readonly #requests = new Map<number, PromiseWithResolvers<unknown>>();
  readonly #reading: Promise<void>;
  #lastId = 0;

  private constructor(program: string, homeserver: string, logFile: string) {
    this.#homeserver = homeserver;
    this.#child = new Child({ name: "the phones", command: [program], logFile, pipeOutput: true });
    this.#reading = this.#read();
  }

  /**
   * Starts the process, building the program if necessary. No user is logged in yet.
   *
   * @param homeserver base URL
   * @param logFile receives its error output
   */
  static async start(homeserver: string, logFile: string): Promise<PhoneHost> {
    return new PhoneHost(await phoneProgram(), homeserver, logFile);
  }

  /**
   * Logs a user in, on a device that syncs from then on and isn't signed.
   *
   * @param deviceId id of a device to recreate; a new one by default
   */
  async login(localpart: string, password: string, deviceId?: string): Promise<Phone> {
    const person = `${localpart}#${this.#lastId + 1}`;
    const parameters = { person, homeserver: this.#homeserver, user: localpart, password, deviceId: deviceId ?? "" };
    const login = await this.request("login", parameters) as Login;
    const phone = new Phone((op, more) => this.request(op, { ...more, person }), this.#homeserver, login);
    this.#phones.set(person, phone);
    return phone;
  }

  /** Generates a recovery key for secret storage. */
  async makeRecoveryKey(): Promise<string> {
    return (await this.request("makeRecoveryKey", {}) as { recoveryKey: string }).recoveryKey;
  }

  /**
   * Sends a request to the process.
   *
   * @param op name of the operation
   * @param parameters parameters of the operation
   * @throws Error with the process' error
   */
  async request(op: string, parameters: Content): Promise<unknown> {
    const id = ++this.#lastId;
    const answer = Promise.withResolvers<unknown>();
    this.#requests.set(id, answer);
    await this.#child.write(JSON.stringify({ ...parameters, id, op }));
    return await answer.promise;
  }

  /** Ends the process. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child.kill();
    await this.#reading;
  }

  async #read(): Promise<void> {
    let rest = "";
    for await (const text of this.#child.output.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) this.#take(JSON.parse(line));
    }
    const ended = new Error(`Cannot ask the phones: their process has ended\n${await this.#child.tail()}`);
    for (const request of this.#requests.values()) request.reject(ended);
  }

  #take(line: Line): void {
    if ("event" in line) return this.#phones.get(line.person)?.see(line.event);
    if ("verification" in line) return this.#phones.get(line.person)?.advance(line.verification);
    const request = this.#requests.get(line.id);
    this.#requests.delete(line.id);
    if (line.error === undefined) request?.resolve(line.result);
    else request?.reject(new Error(`Cannot do what the phone was asked for: ${line.error}`));
  }
}
