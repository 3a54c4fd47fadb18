/**
 * The operator as a whole: joins its parts, listens to the chat, ends in an orderly way. Knows nothing of what its
 * ports are made of.
 *
 * @module
 */

import { ConfigError } from "../errors/mod.ts";
import { Accounts } from "./accounts.ts";
import { Intake } from "./intake.ts";
import { Lanes } from "./lanes.ts";
import { Outbox } from "./outbox.ts";
import type { Listener } from "./ports.ts";
import { Rooms } from "./rooms.ts";
import type { Parts } from "./settings.ts";
import { Switch } from "./target.ts";
import { Triage } from "./triage.ts";

/** Takes commands, carries them out, answers. */
export class Operator implements Listener, AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #abandon = new AbortController();
  readonly #stopped = Promise.withResolvers<void>();
  readonly #lanes: Lanes;
  readonly #rooms: Rooms;
  readonly #outbox: Outbox;
  readonly #intake: Intake;
  #running = false;
  #failure: { readonly error: unknown } | undefined;

  /**
   * Does nothing before {@linkcode run}.
   *
   * @throws ConfigError if there is no target
   */
  constructor(parts: Parts) {
    const [target] = parts.settings.targets;
    if (target === undefined) throw new ConfigError(["Cannot operate: no target is given"]);
    const stop = this.#stop.signal;
    const abandon = this.#abandon.signal;
    const accounts = new Accounts(parts.observer);
    this.#lanes = new Lanes(stop, (error) => this.#fail(error));
    this.#rooms = new Rooms(parts, accounts, this.#lanes, stop);
    const outbox = new Outbox(parts, this.#lanes, stop, abandon);
    const triage = new Triage(parts, target, outbox, accounts, this.#lanes, stop);
    const worker = new Switch(parts, outbox, accounts, stop, abandon);
    this.#outbox = outbox;
    this.#intake = new Intake(parts, { outbox, triage, worker, accounts }, this.#lanes);
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
        this.#intake.resume();
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
