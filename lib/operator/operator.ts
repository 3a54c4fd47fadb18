/**
 * The operator as a whole: joins its parts, listens to the chat, ends in an orderly way. Knows nothing of what its
 * ports are made of.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { type Clock, KeyedQueue } from "../async.ts";
import type { Pins } from "../authorization/mod.ts";
import { ConfigError, isFatal } from "../errors.ts";
import { Audit, type Observer } from "./audit.ts";
import type { TargetPolicy } from "./decision.ts";
import { EventProcessor, type MessageSettings } from "./event_processor.ts";
import { Judge, type TrustSettings } from "./judgement.ts";
import { Memberships } from "./memberships.ts";
import type { Chat, Journal, Listener, RefusedEvent, Rollouts, Scaler, Target, TargetDocumentStore } from "./ports.ts";
import { type NewBackoff, Retrying } from "./retrying.ts";
import { SendQueue } from "./send_queue.ts";
import { TargetWorkers } from "./target_workers.ts";

const logger = getLogger(["openclaw-toggle", "operator"]);

/** The part of the configuration that concerns the operator. */
export interface OperatorSettings extends TrustSettings, Omit<MessageSettings, "aliases">, TargetPolicy {
  /** What is switched, the default one first; at least one. */
  readonly targets: readonly Target[];
}

/** What an operator works with. */
export interface OperatorParts {
  /** Where people are. */
  readonly chat: Chat;
  /** Where the targets are. */
  readonly scaler: Scaler;
  /** How they fare. */
  readonly rollouts: Rollouts;
  /** What lasts of commands and answers. */
  readonly journal: Journal;
  /** What lasts of the targets. */
  readonly memory: TargetDocumentStore;
  /** What users are known by. */
  readonly pins: Pins;
  /** Has calls to journal, memory and pins made as one: all of them last, or none. */
  readonly transaction: (calls: () => void) => void;
  /** The configuration's part. */
  readonly settings: OperatorSettings;
  /** Time. */
  readonly clock: Clock;
  /** Makes the back-off of one piece of work. */
  readonly newBackoff: NewBackoff;
  /** Who counts. */
  readonly observer: Observer;
}

/** Takes commands, carries them out, answers. */
export class Operator implements Listener, AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #abandon = new AbortController();
  readonly #stopped = Promise.withResolvers<void>();
  readonly #queue: KeyedQueue;
  readonly #retrying: Retrying;
  readonly #allowedUsers: ReadonlySet<string>;
  readonly #audit: Audit;
  readonly #judge: Judge;
  readonly #memberships: Memberships;
  readonly #sendQueue: SendQueue;
  readonly #targets: TargetWorkers;
  readonly #events: EventProcessor;
  /** Users whose devices are to be looked at, once more than that under way. */
  readonly #devicesToLookAt = new Set<string>();
  #running = false;
  #failure: { readonly error: unknown } | undefined;

  /**
   * Does nothing before {@linkcode run}.
   *
   * @throws ConfigError if there is no target
   */
  constructor(parts: OperatorParts) {
    const { chat, journal, pins, clock, observer, settings } = parts;
    if (settings.targets.length === 0) throw new ConfigError(["TARGETS: empty list; use alias=namespace/name"]);
    const stop = this.#stop.signal;
    const abandon = this.#abandon.signal;
    const queue = this.#queue = new KeyedQueue(stop, (error) => this.#failed(error));
    const retrying = this.#retrying = new Retrying(parts.newBackoff, clock, observer);
    const audit = this.#audit = new Audit(observer, parts.rollouts, queue, stop);
    const judge = this.#judge = new Judge(chat, pins, clock, settings);
    const { allowedUsers } = settings;
    this.#allowedUsers = allowedUsers;
    this.#memberships = new Memberships({ chat, allowedUsers, audit, queue, retrying, stop });
    const sendQueue = this.#sendQueue = new SendQueue({ chat, journal, clock, queue, retrying, stop, abandon });
    const targets = this.#targets = new TargetWorkers({ ...parts, judge, sendQueue, audit, queue, stop, abandon });
    this.#events = new EventProcessor({
      ...{ chat, journal, judge, targets, sendQueue, audit, clock, queue, retrying, stop },
      settings: { ...settings, aliases: settings.targets.map(({ alias }) => alias) },
    });
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
        this.#memberships.look();
        this.devicesChanged([...this.#allowedUsers]);
        this.#events.resume();
        this.#targets.start();
        this.#sendQueue.drain();
      });
      await this.#stopped.promise;
      await this.#queue.idle();
      if (this.#failure === undefined && !this.#abandon.signal.aborted) await this.#sendQueue.flush();
      if (this.#failure !== undefined) throw this.#failure.error;
    } finally {
      this.#running = false;
      signal.removeEventListener("abort", end);
    }
  }

  /** New events stand in the inbox. */
  eventsArrived(): void {
    this.#look(() => this.#events.eventsArrived());
  }

  /** A message of a stranger has come, and was not taken in. */
  refused(event: RefusedEvent): void {
    this.#audit.refused(event, "stranger");
  }

  /** A key came for a Megolm session whose messages could not be read. */
  keyArrived(roomId: string, sessionId: string): void {
    this.#look(() => this.#events.keyArrived(roomId, sessionId));
  }

  /** Invitations or memberships have changed. */
  roomsChanged(): void {
    this.#look(() => this.#memberships.look());
  }

  /** The homeserver says that these users' devices or identities have changed. */
  devicesChanged(userIds: readonly string[]): void {
    this.#look(() => {
      for (const user of userIds) {
        if (!this.#allowedUsers.has(user) || this.#devicesToLookAt.has(user)) continue;
        this.#devicesToLookAt.add(user);
        this.#queue.run(`devices ${user}`, () => this.#lookAtDevices(user));
      }
    });
  }

  /** Not all of what was written in a room could be fetched. False while we don't run yet, or no longer. */
  historyCutOff(roomId: string, id: number): boolean {
    let isTaken = false;
    this.#look(() => {
      this.#events.historyCutOff(roomId, id);
      isTaken = true;
    });
    return isTaken;
  }

  /** Somebody asks to verify us; strangers are not answered. */
  verificationAsked(userId: string): void {
    if (!this.#allowedUsers.has(userId)) this.#audit.verificationRefused(userId);
  }

  /** Ends at once, also what is under way; what was not finished is taken up at the next start. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#end(new DOMException("The operator was ended", "AbortError"));
    this.#abandon.abort(this.#stop.signal.reason);
    await this.#queue.idle();
  }

  /** Whoever tells us something must not suffer from our failures. */
  #look(at: () => void): void {
    if (!this.#running || this.#stop.signal.aborted) return;
    try {
      at();
    } catch (error) {
      this.#failed(error);
    }
  }

  async #lookAtDevices(user: string): Promise<void> {
    this.#devicesToLookAt.delete(user);
    const stop = this.#stop.signal;
    await this.#retrying.run(`look at the devices of ${user}`, () => this.#judge.lookAtDevices(user, stop), stop);
  }

  /** What nobody has dealt with is the failure of one piece of work, unless it is one of the few that end everything. */
  #failed(error: unknown): void {
    if (isFatal(error)) return this.#fail(error);
    logger.error("A piece of work failed: {reason}", { reason: String(error), error });
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
