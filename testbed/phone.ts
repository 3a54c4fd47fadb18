/**
 * A phone that can do more than those of `person.ts`: it has a cross-signing identity, and verifies others by emoji.
 * `phone_host.ts` knows how the encryption is done; what needs none goes straight to the homeserver.
 *
 * @module
 */

import { httpJson } from "./network.ts";
import { type Content, type SeenEvent, Watch } from "./watch.ts";

/** What a phone shows of somebody: their identity and devices, as the homeserver publishes them now. */
export interface Sight {
  /** Public master key, unpadded base64; undefined if there is no identity. */
  readonly masterKey?: string;
  /** All devices. */
  readonly devices: readonly {
    /** Device id. */
    readonly deviceId: string;
    /** Public ed25519 key, unpadded base64. */
    readonly ed25519: string;
    /** Public curve25519 key, unpadded base64. */
    readonly curve25519: string;
    /** Signed by its owner's self-signing key, and that by the master key. */
    readonly signedByOwner: boolean;
  }[];
}

/** Seven emojis, as a phone shows them. */
export interface Emojis {
  /** The symbols. */
  readonly emojis: readonly string[];
  /** What they are called. */
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

/** What a phone is logged in as. */
export interface Login {
  /** User id. */
  readonly userId: string;
  /** Device id. */
  readonly deviceId: string;
  /** Access token. */
  readonly accessToken: string;
}

/** Asks the phone's program for something; rejects with what went wrong there. */
export type Ask = (op: string, parameters: Content) => Promise<unknown>;

/** Someone's phone. */
export class Phone {
  /** User id. */
  readonly userId: string;
  /** Device id of the phone. */
  readonly deviceId: string;
  /** Of this device. */
  readonly accessToken: string;
  readonly #ask: Ask;
  readonly #api: string;
  readonly #watches = new Set<Watch>();
  readonly #steps: Step[] = [];
  readonly #waiters = new Set<() => void>();

  /** Made by `PhoneHost.login`. */
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
   * @throws HttpError if the answer is no success
   */
  // deno-lint-ignore no-explicit-any
  request(method: string, path: string, body?: unknown): Promise<any> {
    return httpJson(method, `${this.#api}${path}`, { authorization: `Bearer ${this.accessToken}`, body });
  }

  /** Waits until the phone shows all of these users as joined; only then does it encrypt for them. */
  async untilJoined(roomId: string, users: readonly string[], deadlineMs = 10_000): Promise<void> {
    await this.#ask("waitJoined", { roomId, users, deadlineMs });
  }

  /** Encrypts an event for everybody in the room, to be sent as it is. The key goes out at once. */
  async encrypt(roomId: string, type: string, content: Content): Promise<{ type: string; content: Content }> {
    return await this.#ask("encrypt", { roomId, type, content }) as { type: string; content: Content };
  }

  /** Looks at a room from now on. */
  watch(roomId: string): Watch {
    const watch = new Watch(`${this.userId} in ${roomId}`, roomId, () => this.#watches.delete(watch));
    this.#watches.add(watch);
    return watch;
  }

  /**
   * Makes a cross-signing identity and signs this device with it; one that was there is replaced.
   *
   * @returns public master key, unpadded base64
   */
  async makeIdentity(): Promise<string> {
    return (await this.#ask("makeIdentity", {}) as { masterKey: string }).masterKey;
  }

  /**
   * Takes the identity out of the account's secret storage, and signs this device with it.
   *
   * @returns public master key, unpadded base64
   */
  async restoreIdentity(recoveryKey: string): Promise<string> {
    return (await this.#ask("restoreIdentity", { recoveryKey }) as { masterKey: string }).masterKey;
  }

  /** Takes the identity's private keys over from another phone of the same person; signs nothing. */
  async borrowIdentity({ deviceId }: Phone): Promise<void> {
    await this.#ask("borrowIdentity", { deviceId });
  }

  /** Signs another device of the same person. Only the phone that has made the identity can. */
  async signDevice(deviceId: string): Promise<void> {
    await this.#ask("signDevice", { deviceId });
  }

  /** Looks at somebody's identity and devices. */
  async look(userId: string): Promise<Sight> {
    return await this.#ask("look", { userId }) as Sight;
  }

  /**
   * Asks somebody to compare emojis, and begins as soon as that is accepted.
   *
   * @param roomId where to ask; to-device if left out
   * @returns id of the verification, and the emojis to be compared
   */
  async verify(userId: string, roomId = ""): Promise<{ transactionId: string; shown: Emojis }> {
    const asked = await this.#ask("verify", { userId, roomId }) as { transactionId: string };
    const { transactionId } = asked;
    await this.untilReady(transactionId);
    await this.#ask("startEmojis", { transactionId });
    return { transactionId, shown: await this.emojis(transactionId) };
  }

  /** Asks somebody to compare emojis, whatever comes of it. Returns the id of the verification. */
  async askToVerify(userId: string, roomId = ""): Promise<string> {
    return (await this.#ask("verify", { userId, roomId }) as { transactionId: string }).transactionId;
  }

  /** Gives a verification up. */
  async cancelVerification(transactionId: string): Promise<void> {
    await this.#ask("cancelVerification", { transactionId });
  }

  /** A verification has been accepted. */
  isReady(transactionId: string): boolean {
    return this.#steps.some((step) => step.transactionId === transactionId && step.step === "ready");
  }

  /** Waits until a verification is accepted. */
  async untilReady(transactionId: string): Promise<void> {
    await this.#reached(transactionId, "ready");
  }

  /** Accepts what others ask for from now on; before, it lets that pass. */
  async acceptVerifications(): Promise<void> {
    await this.#ask("acceptVerifications", {});
  }

  /** Waits for the emojis of a verification. */
  async emojis(transactionId: string): Promise<Emojis> {
    return await this.#reached(transactionId, "emojis") as Step & Emojis;
  }

  /** Says that the emojis are the same, and waits until the other side has said so, too. */
  async confirm(transactionId: string): Promise<void> {
    await this.#ask("confirmEmojis", { transactionId });
    await this.#reached(transactionId, "done");
  }

  /** Takes an event that the phone shows; called by `PhoneHost`. */
  see(event: SeenEvent): void {
    for (const watch of this.#watches) watch.see(event);
  }

  /** Takes a step of a verification; called by `PhoneHost`. */
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

  /** The first step that is accepted, whether it has come already or comes in time. */
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
