/**
 * The operator as a whole: joins its parts, listens to the chat, ends in an orderly way. Knows nothing of what its
 * ports are made of.
 *
 * @module
 */

import { ConfigError } from "../errors.ts";
import { Accounts } from "./accounts.ts";
import { Intake } from "./intake.ts";
import { KeyedQueue } from "../async.ts";
import { Outbox } from "./outbox.ts";
import type { Listener } from "./ports.ts";
import { Rooms } from "./rooms.ts";
import type { Inside, Parts, Settings } from "./settings.ts";
import { TargetWorkers } from "./target_worker.ts";
import { Triage } from "./triage.ts";
import { Vouching } from "./vouching.ts";

/** Takes commands, carries them out, answers. */
export class Operator implements Listener, AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #abandon = new AbortController();
  readonly #stopped = Promise.withResolvers<void>();
  readonly #lanes: KeyedQueue;
  readonly #rooms: Rooms;
  readonly #outbox: Outbox;
  readonly #vouching: Vouching;
  readonly #intake: Intake;
  readonly #targets: TargetWorkers;
  readonly #settings: Settings;
  readonly #accounts: Accounts;
  #running = false;
  #failure: { readonly error: unknown } | undefined;

  /**
   * Does nothing before {@linkcode run}.
   *
   * @throws ConfigError if there is no target
   */
  constructor(parts: Parts) {
    if (parts.settings.targets.length === 0) throw new ConfigError(["Cannot operate: no target is given"]);
    this.#lanes = new KeyedQueue(this.#stop.signal, (error) => this.#fail(error));
    this.#accounts = new Accounts(parts, this.#lanes, this.#stop.signal);
    const inside: Inside = {
      ...parts,
      accounts: this.#accounts,
      lanes: this.#lanes,
      stop: this.#stop.signal,
      abandon: this.#abandon.signal,
    };
    this.#settings = parts.settings;
    this.#rooms = new Rooms(inside);
    this.#outbox = new Outbox(inside);
    this.#vouching = new Vouching(inside, this.#outbox);
    const triage = new Triage(inside, this.#outbox, this.#vouching);
    this.#targets = new TargetWorkers(inside, this.#outbox);
    this.#intake = new Intake(inside, this.#outbox, triage, this.#targets);
  }

  /**
   * Takes up what an earlier run has left, then works until it is told to end. At the end no command is begun any more;
   * a change that has been begun is finished and, if possible, answered. Whoever calls limits the time for that by
   * disposing of the operator.
   *
   * @param signal ends it
   * @throws whatever no part knows how to deal with: a failing store, refused credentials
   */
  async run(signal: AbortSignal): Promise<void> {
    const end = (): void => this.#end(signal.reason);
    if (signal.aborted) return end();
    signal.addEventListener("abort", end);
    try {
      this.#running = true;
      this.#look(() => {
        this.#rooms.tidy();
        this.#vouching.devicesChanged(this.#settings.allowedUsers);
        this.#intake.resume();
        this.#targets.start();
        this.#outbox.drain();
      });
      await this.#stopped.promise;
      await this.#lanes.idle();
      if (this.#failure === undefined && !this.#abandon.signal.aborted) await this.#outbox.flush();
      if (this.#failure !== undefined) throw this.#failure.error;
    } finally {
      this.#running = false;
      signal.removeEventListener("abort", end);
    }
  }

  /** New events stand in the inbox. */
  eventsArrived(): void {
    this.#look(() => this.#intake.take());
  }

  /** A key came for a Megolm session whose messages could not be read. */
  keyArrived(roomId: string, sessionId: string): void {
    this.#look(() => this.#intake.keyArrived(roomId, sessionId));
  }

  /** Invitations or memberships have changed. */
  roomsChanged(): void {
    this.#look(() => this.#rooms.tidy());
  }

  /** The homeserver says that these users' devices or identities have changed. */
  devicesChanged(userIds: readonly string[]): void {
    this.#look(() => this.#vouching.devicesChanged(userIds));
  }

  /** Somebody asks to verify us; strangers are not answered. */
  verificationAsked(userId: string): void {
    if (!this.#settings.allowedUsers.has(userId)) this.#accounts.verificationRefused(userId);
  }

  /** Ends at once, also what is under way; what was not finished is taken up at the next start. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#end(new DOMException("The operator was ended", "AbortError"));
    this.#abandon.abort(this.#stop.signal.reason);
    await this.#lanes.idle();
  }

  /** Whoever tells us something must not suffer from our failures. */
  #look(at: () => void): void {
    if (!this.#running || this.#stop.signal.aborted) return;
    try {
      at();
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    this.#failure ??= { error };
    this.#end(new DOMException("The operator has failed", "AbortError"));
    this.#abandon.abort(this.#stop.signal.reason);
  }

  #end(reason: unknown): void {
    this.#stop.abort(reason);
    this.#stopped.resolve();
  }
}
