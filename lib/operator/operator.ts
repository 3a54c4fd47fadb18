/**
 * The operator: wires up its parts, listens to the chat and shuts down gracefully. It knows only the interfaces of its
 * ports.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { type Clock, KeyedQueue } from "../async.ts";
import type { Pins } from "../authorization/mod.ts";
import { ConfigError, isFatal } from "../errors.ts";
import { Agents } from "./agents.ts";
import { Audit, type Observer } from "./audit.ts";
import { EventProcessor } from "./event_processor.ts";
import { Authorizer } from "./authorizer.ts";
import { Memberships } from "./memberships.ts";
import type { Chat, Journal, OperatorConfig, Rollouts, Scaler } from "./ports.ts";
import type { AgentRoomActivity, Listener, RefusedEvent } from "../session/mod.ts";
import type { TargetDocumentStore } from "./target_state.ts";
import { type NewBackoff, Retrier } from "./retrier.ts";
import { SendQueue } from "./send_queue.ts";
import { TargetWorkers } from "./target_workers.ts";

const logger = getLogger(["openclaw-toggle", "operator"]);

/** Dependencies of an {@linkcode Operator}. */
export interface OperatorOptions {
  /** Matrix. */
  readonly chat: Chat;
  /** Reads and changes the targets. */
  readonly scaler: Scaler;
  /** Watches and diagnoses the targets. */
  readonly rollouts: Rollouts;
  /** Persists events, commands and answers. */
  readonly journal: Journal;
  /** Persists the state of the targets. */
  readonly targetDocument: TargetDocumentStore;
  /** Pinned devices and identities of the users. */
  readonly pins: Pins;
  /** Runs calls to journal, target document and pins in one transaction. */
  readonly transaction: (calls: () => void) => void;
  /** The part of the configuration that the operator needs. */
  readonly config: OperatorConfig;
  /** Clock and timers. */
  readonly clock: Clock;
  /** Creates a back-off. */
  readonly newBackoff: NewBackoff;
  /** Receives what happens, for metrics. */
  readonly observer: Observer;
}

/** Takes commands from the chat, carries them out and answers. */
export class Operator implements Listener, AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #abandon = new AbortController();
  readonly #stopped = Promise.withResolvers<void>();
  readonly #queue: KeyedQueue;
  readonly #retrier: Retrier;
  readonly #allowedUsers: ReadonlySet<string>;
  readonly #audit: Audit;
  readonly #authorizer: Authorizer;
  readonly #memberships: Memberships;
  readonly #sendQueue: SendQueue;
  readonly #targets: TargetWorkers;
  readonly #events: EventProcessor;
  /** Users whose device check is queued and hasn't started. A change during a check queues another one. */
  readonly #devicesToCheck = new Set<string>();
  #running = false;
  #failure: { readonly error: unknown } | undefined;

  /**
   * Wires up the parts. Nothing starts before {@linkcode run}.
   *
   * @throws ConfigError if there is no target
   */
  constructor(options: OperatorOptions) {
    const { chat, journal, pins, clock, observer, config } = options;
    if (config.targets.length === 0) throw new ConfigError(["TARGETS: empty list; use alias=namespace/name"]);
    const stop = this.#stop.signal;
    const abandon = this.#abandon.signal;
    const queue = this.#queue = new KeyedQueue(stop, (error) => this.#failed(error));
    const retrier = this.#retrier = new Retrier(options.newBackoff, clock, observer);
    const audit = this.#audit = new Audit(observer, options.rollouts, queue, clock, stop);
    const agents = new Agents(config.agents, chat);
    const authorizer = this.#authorizer = new Authorizer(chat, pins, clock, config);
    const { allowedUsers } = config;
    this.#allowedUsers = allowedUsers;
    this.#memberships = new Memberships({ chat, allowedUsers, audit, queue, retrier, stop });
    const sendQueue = this.#sendQueue = new SendQueue({ chat, journal, clock, queue, retrier, stop, abandon });
    const targets = this.#targets = new TargetWorkers({
      ...options,
      agents,
      authorizer,
      sendQueue,
      audit,
      queue,
      stop,
      abandon,
    });
    this.#events = new EventProcessor({
      ...{ chat, journal, authorizer, agents, targets, sendQueue, audit, clock, queue, retrier, stop },
      config: { ...config, aliases: config.targets.map(({ alias }) => alias) },
    });
  }

  /**
   * Resumes what an earlier run left, then runs until the signal is aborted. After that no command begins; a change
   * that has begun is completed and, if possible, answered. The caller limits the time for that by disposing of the
   * operator.
   *
   * @param signal stops the operator
   * @throws any failure that is fatal, such as a failing store or refused credentials
   */
  async run(signal: AbortSignal): Promise<void> {
    const end = (): void => this.#end(signal.reason);
    if (signal.aborted) return end();
    signal.addEventListener("abort", end);
    try {
      this.#running = true;
      this.#whileRunning(() => {
        this.#memberships.review();
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

  /** The journal holds new events. */
  eventsArrived(): void {
    this.#whileRunning(() => this.#events.eventsArrived());
  }

  /** A stranger's message was received and not stored. */
  refused(event: RefusedEvent): void {
    this.#audit.refused(event, "stranger");
  }

  /** There was activity in rooms of agents. May be called before {@linkcode run}. */
  agentRoomsActive(activity: AgentRoomActivity): void {
    this.#targets.agentRoomsActive(activity);
  }

  /** A key arrived for a Megolm session whose messages could not be decrypted. */
  keyArrived(roomId: string, sessionId: string): void {
    this.#whileRunning(() => this.#events.keyArrived(roomId, sessionId));
  }

  /** Invitations or memberships have changed. */
  roomsChanged(): void {
    this.#whileRunning(() => this.#memberships.review());
  }

  /** The homeserver reports that devices or identities of these users have changed. */
  devicesChanged(userIds: readonly string[]): void {
    this.#whileRunning(() => {
      for (const user of userIds) {
        if (!this.#allowedUsers.has(user) || this.#devicesToCheck.has(user)) continue;
        this.#devicesToCheck.add(user);
        this.#queue.run(`devices ${user}`, () => this.#checkDevices(user));
      }
    });
  }

  /** Part of a room's history could not be fetched. Returns false if the operator isn't running. */
  historyCutOff(roomId: string, id: number): boolean {
    let isTaken = false;
    this.#whileRunning(() => {
      this.#events.historyCutOff(roomId, id);
      isTaken = true;
    });
    return isTaken;
  }

  /** Somebody has asked to verify us. Strangers get no answer. */
  verificationAsked(userId: string): void {
    if (!this.#allowedUsers.has(userId)) this.#audit.verificationRefused(userId);
  }

  /** Aborts everything at once. What is unfinished is resumed at the next start. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#end(new DOMException("The operator was ended", "AbortError"));
    this.#abandon.abort(this.#stop.signal.reason);
    await this.#queue.idle();
  }

  /** Runs a callback of the chat. Our failures must not reach the caller. */
  #whileRunning(at: () => void): void {
    if (!this.#running || this.#stop.signal.aborted) return;
    try {
      at();
    } catch (error) {
      this.#failed(error);
    }
  }

  async #checkDevices(user: string): Promise<void> {
    this.#devicesToCheck.delete(user);
    const stop = this.#stop.signal;
    await this.#retrier.run(`look at the devices of ${user}`, () => this.#authorizer.checkDevices(user, stop), stop);
  }

  /** An unhandled failure ends only its own job, unless it is fatal. */
  #failed(error: unknown): void {
    if (isFatal(error)) return this.#fail(error);
    logger.error("failed: {reason}", { reason: String(error), error });
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
