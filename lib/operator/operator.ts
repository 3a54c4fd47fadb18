/**
 * The operator as a whole: joins its options, listens to the chat, ends in an orderly way. Knows nothing of what its
 * ports are made of.
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

/** What an operator works with. */
export interface OperatorOptions {
  /** Where people are. */
  readonly chat: Chat;
  /** Where the targets are. */
  readonly scaler: Scaler;
  /** How they fare. */
  readonly rollouts: Rollouts;
  /** What lasts of commands and answers. */
  readonly journal: Journal;
  /** What lasts of the targets. */
  readonly targetDocument: TargetDocumentStore;
  /** What users are known by. */
  readonly pins: Pins;
  /** Has calls to journal, target document and pins made as one: all of them last, or none. */
  readonly transaction: (calls: () => void) => void;
  /** The configuration's part. */
  readonly config: OperatorConfig;
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
  readonly #retrier: Retrier;
  readonly #allowedUsers: ReadonlySet<string>;
  readonly #audit: Audit;
  readonly #authorizer: Authorizer;
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
  constructor(options: OperatorOptions) {
    const { chat, journal, pins, clock, observer, config } = options;
    if (config.targets.length === 0) throw new ConfigError(["TARGETS: empty list; use alias=namespace/name"]);
    const stop = this.#stop.signal;
    const abandon = this.#abandon.signal;
    const queue = this.#queue = new KeyedQueue(stop, (error) => this.#failed(error));
    const retrier = this.#retrier = new Retrier(options.newBackoff, clock, observer);
    const audit = this.#audit = new Audit(observer, options.rollouts, queue, stop);
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

  /** Something was written in rooms where agents are; also before we run. */
  agentRoomsActive(activity: AgentRoomActivity): void {
    this.#targets.agentRoomsActive(activity);
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
    await this.#retrier.run(`look at the devices of ${user}`, () => this.#authorizer.lookAtDevices(user, stop), stop);
  }

  /** What nobody has dealt with is the failure of one piece of work, unless it is one of the few that end everything. */
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
