/**
 * A phone with more features than that of `person.ts`: it has a cross-signing identity and verifies users by emoji.
 * `phone_host.ts` does the encryption. Requests that need none go directly to the homeserver.
 *
 * @module
 */

import { httpJson } from "./network.ts";
import { type Content, type SeenEvent, Watch } from "./watch.ts";

/** A user's identity and devices, as currently published by the homeserver. */
export interface PublishedUser {
  /** Public master key, unpadded base64; undefined without an identity. */
  readonly masterKey?: string;
  /** All of the user's devices. */
  readonly devices: readonly {
    /** Device id. */
    readonly deviceId: string;
    /** Public ed25519 key, unpadded base64. */
    readonly ed25519: string;
    /** Public curve25519 key, unpadded base64. */
    readonly curve25519: string;
    /** Whether the owner's self-signing key has signed it, and the master key that key. */
    readonly signedByOwner: boolean;
  }[];
}

/** The seven emojis of a verification. */
export interface Emojis {
  /** The symbols. */
  readonly emojis: readonly string[];
  /** Their names. */
  readonly descriptions: readonly string[];
}

/** A step of a verification. */
export type Step =
  & { readonly transactionId: string }
  & (
    | { readonly step: "requested"; readonly by: string }
    | { readonly step: "ready" | "done" }
    | { readonly step: "emojis" } & Emojis
    | { readonly step: "cancelled"; readonly code: string; readonly reason: string }
  );

/** A phone's login. */
export interface Login {
  /** User id. */
  readonly userId: string;
  /** Device id. */
  readonly deviceId: string;
  /** Access token. */
  readonly accessToken: string;
}

/** Sends a request to the phone's process. Rejects with the process' error. */
export type Ask = (op: string, parameters: Content) => Promise<unknown>;

/** A user's phone. */
export class Phone {
  /** User id. */
  readonly userId: string;
  /** Device id of the phone. */
  readonly deviceId: string;
  /** Access token of this device. */
  readonly accessToken: string;
  readonly #ask: Ask;
  readonly #api: string;
  readonly #watches = new Set<Watch>();
  readonly #steps: Step[] = [];
  readonly #waiters = new Set<() => void>();

  /** Use `PhoneHost.login`. */
  constructor(ask: Ask, homeserver: string, login: Login) {
    this.userId = login.userId;
    this.deviceId = login.deviceId;
    this.accessToken = login.accessToken;
    this.#ask = ask;
    this.#api = `${homeserver}/_matrix/client/v3`;
  }

  /**
   * Sends a request to the homeserver.
   *
   * @param path below `/_matrix/client/v3`
   * @throws HttpError if the request fails
   */
  // deno-lint-ignore no-explicit-any
  request(method: string, path: string, body?: unknown): Promise<any> {
    return httpJson(method, `${this.#api}${path}`, { authorization: `Bearer ${this.accessToken}`, body });
  }

  /** Waits until the phone shows all of these users as joined. Before that it doesn't encrypt for them. */
  async untilJoined(roomId: string, users: readonly string[], deadlineMs = 10_000): Promise<void> {
    await this.#ask("waitJoined", { roomId, users, deadlineMs });
  }

  /** Encrypts an event for everyone in the room, to be sent unchanged. The room key is shared at once. */
  async encrypt(roomId: string, type: string, content: Content): Promise<{ type: string; content: Content }> {
    return await this.#ask("encrypt", { roomId, type, content }) as { type: string; content: Content };
  }

  /** Watches a room from now on. */
  watch(roomId: string): Watch {
    const watch = new Watch(`${this.userId} in ${roomId}`, roomId, () => this.#watches.delete(watch));
    this.#watches.add(watch);
    return watch;
  }

  /**
   * Creates a cross-signing identity, replacing an existing one, and signs this device with it.
   *
   * @returns public master key, unpadded base64
   */
  async makeIdentity(): Promise<string> {
    return (await this.#ask("makeIdentity", {}) as { masterKey: string }).masterKey;
  }

  /**
   * Loads the identity from the account's secret storage, and signs this device with it.
   *
   * @returns public master key, unpadded base64
   */
  async restoreIdentity(recoveryKey: string): Promise<string> {
    return (await this.#ask("restoreIdentity", { recoveryKey }) as { masterKey: string }).masterKey;
  }

  /** Copies the identity's private keys from another phone of the same user. Signs nothing. */
  async borrowIdentity({ deviceId }: Phone): Promise<void> {
    await this.#ask("borrowIdentity", { deviceId });
  }

  /** Signs another device of the same user. Only works on the phone that created the identity. */
  async signDevice(deviceId: string): Promise<void> {
    await this.#ask("signDevice", { deviceId });
  }

  /** Fetches a user's identity and devices. */
  async published(userId: string): Promise<PublishedUser> {
    return await this.#ask("look", { userId }) as PublishedUser;
  }

  /**
   * Requests an emoji verification of a user, and starts it when it is accepted.
   *
   * @param roomId room to send the request in; to-device by default
   * @returns transaction id, and the emojis to compare
   */
  async verify(userId: string, roomId = ""): Promise<{ transactionId: string; shown: Emojis }> {
    const asked = await this.#ask("verify", { userId, roomId }) as { transactionId: string };
    const { transactionId } = asked;
    await this.untilReady(transactionId);
    await this.#ask("startEmojis", { transactionId });
    return { transactionId, shown: await this.emojis(transactionId) };
  }

  /** Requests an emoji verification, without waiting for its acceptance. Returns its transaction id. */
  async askToVerify(userId: string, roomId = ""): Promise<string> {
    return (await this.#ask("verify", { userId, roomId }) as { transactionId: string }).transactionId;
  }

  /** Cancels a verification. */
  async cancelVerification(transactionId: string): Promise<void> {
    await this.#ask("cancelVerification", { transactionId });
  }

  /** Whether a verification has been accepted. */
  isReady(transactionId: string): boolean {
    return this.#steps.some((step) => step.transactionId === transactionId && step.step === "ready");
  }

  /** Waits until a verification is accepted. */
  async untilReady(transactionId: string): Promise<void> {
    await this.#reached(transactionId, "ready");
  }

  /** Accepts verification requests from now on. Before that, they are ignored. */
  async acceptVerifications(): Promise<void> {
    await this.#ask("acceptVerifications", {});
  }

  /** Waits for the emojis of a verification. */
  async emojis(transactionId: string): Promise<Emojis> {
    return await this.#reached(transactionId, "emojis") as Step & Emojis;
  }

  /** Confirms that the emojis match, and waits until the other side has done so too. */
  async confirm(transactionId: string): Promise<void> {
    await this.#ask("confirmEmojis", { transactionId });
    await this.#reached(transactionId, "done");
  }

  /** Called by `PhoneHost` with each event that the phone shows. */
  see(event: SeenEvent): void {
    for (const watch of this.#watches) watch.see(event);
  }

  /** Called by `PhoneHost` with each step of a verification. */
  advance(step: Step): void {
    this.#steps.push(step);
    for (const look of this.#waiters) look();
  }

  #reached(transactionId: string, wanted: Step["step"]): Promise<Step> {
    const of = (step: Step) => step.transactionId === transactionId;
    return this.#step(wanted, (step) => of(step) && (step.step === wanted || step.step === "cancelled")).then(
      (step) => {
        if (step.step === wanted) return step;
        throw new Error(`Cannot verify: ${JSON.stringify(step)}`);
      },
    );
  }

  /** The first matching step, whether it has already happened or happens within the deadline. */
  async #step(what: string, accept: (step: Step) => boolean, deadlineMs = 10_000): Promise<Step> {
    const { promise, resolve, reject } = Promise.withResolvers<Step>();
    const look = () => {
      const step = this.#steps.find(accept);
      if (step) resolve(step);
    };
    const late = () => reject(new Error(`${this.userId}: no ${what} in time; ${JSON.stringify(this.#steps)}`));
    const timer = setTimeout(late, deadlineMs);
    this.#waiters.add(look);
    look();
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#waiters.delete(look);
    }
  }
}
