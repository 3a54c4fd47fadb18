/**
 * Reconcile loop of a target: observe, decide, act, wait. It handles everything that happens at the target: commands,
 * one at a time in the order of submission; timer, schedule and idleness; rollouts; changes by others. A watch, if
 * permitted, wakes the loop and spares it reads. Targets run independently, and a status doesn't queue behind other
 * commands.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { type Clock, Deadline, type KeyedQueue, Wakeup } from "../async.ts";
import type { Why } from "../commands/mod.ts";
import {
  ConflictError,
  CredentialError,
  errorMessage,
  FORBIDDEN_FOR_MS,
  isFatal,
  NotFoundError,
  PermissionError,
  RejectedError,
} from "../errors.ts";
import type { Agents } from "./agents.ts";
import type { Audit, Observer, Refusal } from "./audit.ts";
import { COMMAND_TRIED_FOR_MS, decide, isReady, UNANSWERED_TOLD_AFTER_MS } from "./decide.ts";
import type { AgentActivity, Call, Effect, Failure, Observed, Party, State, TargetPolicy, Write } from "./decision.ts";
import { verbOf } from "./decision.ts";
import { ageOf, inThread, threadOf } from "./message.ts";
import type { Diagnosis, Scale } from "../scaler/mod.ts";
import type { InboxEvent } from "../session/mod.ts";
import type { Journal, Rollouts, Scaler } from "./ports.ts";
import type { Target, UpTime } from "../config/mod.ts";
import type { NewBackoff } from "./retrier.ts";
import { Schedule } from "./schedule.ts";
import type { StatusMessages } from "./status_messages.ts";
import { storedCommand, type TargetCommand, workloadKey } from "./target_command.ts";
import type { TargetState, TargetStates } from "./target_state.ts";
import { CommandExecution, Failures, waitAfter } from "./command_execution.ts";

const logger = getLogger(["openclaw-toggle", "operator"]);

/** Interval for looking for a target that doesn't exist. It may be created again. */
const MISSING_TARGET_MS = 5_000;
/** The number of conflicts between read and write, in one pass, that counts as a failure. */
const MAX_CONFLICTS = 5;
/** Longest wait for events from before the start. */
const MAX_CATCHING_UP_MS = 30_000;
/** Why a pass is aborted. Made once, because an error that is made for each command costs its stack trace. */
const INTERRUPTED = new DOMException("A command is waiting", "AbortError");
/** More decisions than this without a wait are a bug. */
const MAX_DECISIONS = 100;

export interface TargetWorkerOptions {
  readonly scaler: Scaler;
  readonly rollouts: Pick<Rollouts, "watch" | "diagnose">;
  readonly journal: Pick<Journal, "newEvents" | "saveCommand">;
  readonly states: TargetStates;
  readonly messages: StatusMessages;
  /** Runs calls to journal and states in one transaction. */
  readonly transaction: (calls: () => void) => void;
  /** Checks whether a command may still be carried out. Returns the reason if not. */
  readonly authorize: (event: InboxEvent, signal: AbortSignal) => Promise<Refusal | undefined>;
  /** Starts to send what is unsent. */
  readonly drain: () => void;
  readonly agents: Agents;
  readonly policy: TargetPolicy;
  /** When the target is up; empty if it has no schedule. */
  readonly upTimes: readonly UpTime[];
  readonly clock: Clock;
  /** Creates a back-off that never gives up. */
  readonly newBackoff: NewBackoff;
  readonly observer: Observer;
  readonly audit: Audit;
  readonly queue: KeyedQueue;
  /** Aborts everything except a change that has begun. */
  readonly stop: AbortSignal;
  /** Aborts that, too. */
  readonly abandon: AbortSignal;
}

export class TargetWorker {
  readonly #target: Target;
  readonly #workload: string;
  readonly #options: TargetWorkerOptions;
  readonly #wakeup = new Wakeup();
  readonly #commands: { readonly command: TargetCommand; readonly over: () => void }[] = [];
  /** Callbacks that resolve the promises of {@linkcode TargetWorker.submit}. */
  readonly #waiting = new Set<() => void>();
  readonly #failures: Failures;
  readonly #schedule: Schedule | undefined;
  #startedAtMs = 0;
  /** Aborts the current pass, so that a command needn't wait for it. */
  #passAbort = new AbortController();
  /** Latest activity in the rooms of its agents. */
  #activity: AgentActivity = {};
  /** Agents that are typing, by room. */
  readonly #typing = new Map<string, readonly string[]>();
  /** When a message last failed to wake the target, milliseconds since the epoch. */
  #wakeFailedAtMs: number | undefined;
  /** Newest counts that the watch has shown; undefined if no watch is running. */
  #watched: Scale | undefined;
  /** Counts that the watch has shown since the last pass. */
  #shown: Scale | undefined;
  /** When it was last read other than for a command, milliseconds since the epoch. */
  #readAtMs: number | undefined;
  #seenUnready = false;
  #seenReadySinceMs: number | undefined;
  #diagnosis: Diagnosis & { readonly atMs: number } | undefined;

  constructor(target: Target, options: TargetWorkerOptions) {
    this.#target = target;
    this.#workload = workloadKey(target);
    this.#options = options;
    this.#failures = new Failures(options);
    this.#schedule = options.upTimes.length === 0 ? undefined : new Schedule(options.upTimes);
  }

  /** Starts the reconcile loop and the watch. */
  start(): void {
    const { queue, clock, stop } = this.#options;
    const { alias } = this.#target;
    this.#startedAtMs = clock.now();
    stop.addEventListener("abort", () => this.#waiting.forEach((over) => over()), { once: true });
    queue.run(`target ${alias}`, () => this.#run());
    queue.run(`watch ${alias}`, () => this.#watch());
  }

  /** Carries a command out when it is its turn. Resolves when it has ended here, or the operator stops. */
  submit(command: TargetCommand): Promise<void> {
    const { queue, stop } = this.#options;
    if (stop.aborted) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    const over = (): void => {
      this.#waiting.delete(over);
      resolve();
    };
    this.#waiting.add(over);
    if (command.word === "status") {
      queue.run(`status ${command.event.seq} ${this.#target.alias}`, () => this.#execute(command).then(over));
    } else {
      this.#commands.push({ command, over });
      this.#passAbort.abort(INTERRUPTED);
      this.#wakeup.notify();
    }
    return promise;
  }

  /** Records activity in the rooms of its agents. */
  recordActivity({ userAtMs = -Infinity, agentAtMs = -Infinity, roomId }: AgentActivity): void {
    const { userAtMs: userBefore = -Infinity, agentAtMs: agentBefore = -Infinity } = this.#activity;
    if (userAtMs > userBefore) {
      this.#activity = { ...this.#activity, userAtMs, ...roomId === undefined ? {} : { roomId } };
    }
    if (agentAtMs > agentBefore) this.#activity = { ...this.#activity, agentAtMs };
    this.#wakeup.notify();
  }

  /** Records which of its agents are typing in a room. */
  recordTyping(roomId: string, agents: readonly string[]): void {
    const before = this.#typing.get(roomId) ?? [];
    if (agents.length === 0) this.#typing.delete(roomId);
    else this.#typing.set(roomId, agents);
    if (before.length + agents.length > 0) this.recordActivity({ agentAtMs: this.#options.clock.now() });
  }

  async #run(): Promise<void> {
    const { stop, clock } = this.#options;
    for (;;) {
      stop.throwIfAborted();
      const next = this.#commands[0];
      if (next === undefined) {
        await this.#wakeup.wait(await this.#reconcile(undefined) ?? Infinity, stop, clock);
        continue;
      }
      await this.#execute(next.command);
      this.#commands.shift();
      next.over();
    }
  }

  /** Reconciles until the command has ended. */
  async #execute(command: TargetCommand): Promise<void> {
    const { stop, clock, states } = this.#options;
    const { roomId, eventId } = command.event;
    const unconfirmed = command.steps.get(this.#workload)?.intent;
    const lines = states.message(roomId, eventId)?.lines ?? [];
    const isTold = lines.some(({ workload, state }) => workload === this.#workload && state === "waiting");
    using execution = new CommandExecution(command, this.#options, unconfirmed, isTold);
    this.#reportIfUnanswered(execution);
    for (;;) {
      const requeueAfterMs = await this.#reconcile(execution);
      if (execution.isOver) return;
      await clock.sleep(requeueAfterMs ?? 0, stop);
    }
  }

  /** Observes, decides and acts until nothing is left to do. Returns the delay until the next pass, in milliseconds. */
  async #reconcile(execution: CommandExecution | undefined): Promise<number | undefined> {
    const { clock, stop } = this.#options;
    try {
      return await this.#decideAndAct(execution);
    } catch (error) {
      if (stop.aborted || isFatal(error)) throw error;
      logger.error("failed to work on {target}: {reason}", {
        target: this.#target.alias,
        reason: String(error),
        error,
      });
      if (execution === undefined) {
        return this.#failures.add("Kubernetes API", undefined, error).retryAtMs - clock.now();
      }
      const news = { kind: "failed", word: verbOf(execution.command), why: { kind: "internal" } } as const;
      this.#write([{ kind: "answer", outcome: "failed", news, followed: false }], execution);
      return undefined;
    }
  }

  async #decideAndAct(execution: CommandExecution | undefined): Promise<number | undefined> {
    const { clock, policy } = this.#options;
    const failures = execution?.failures ?? this.#failures;
    const shown = this.#shown;
    if (execution === undefined) this.#passAbort = new AbortController();
    let learned: Partial<Observed> = { shown, failure: failures.latest };
    let conflicts = 0;
    for (let decisions = 0; decisions < MAX_DECISIONS; decisions += 1) {
      const observed: Observed = { ...this.#known(execution), ...learned };
      const { effects, requeueAfterMs } = decide(this.#state(execution), observed, clock.now(), policy);
      if (effects.length === 0) {
        if (observed.failure !== undefined) return requeueAfterMs;
        failures.clear();
        if (execution === undefined && this.#shown === shown) this.#shown = undefined;
        return requeueAfterMs;
      }
      this.#write(effects.filter(isWrite), execution);
      if (execution?.isOver) return undefined;
      learned = { ...learned, accepted: undefined };
      const call = effects.find((effect): effect is Call => !isWrite(effect));
      if (call === undefined) continue;
      try {
        learned = { ...learned, failure: undefined, ...await this.#call(call, execution) };
      } catch (error) {
        // A command is waiting; its own pass will read the target.
        const isInterrupted = execution === undefined && this.#passAbort.signal.aborted && call.kind !== "scale";
        if (isInterrupted && !isFatal(error)) return 0;
        // Somebody else has changed the target meanwhile. It is read again at once, a few times.
        const isRace = error instanceof ConflictError && ++conflicts < MAX_CONFLICTS;
        const failure = isRace ? undefined : this.#failed(error, call, execution);
        learned = { ...learned, scale: undefined, authorization: undefined, failure };
        if (error instanceof ConflictError) learned = { ...learned, hasConflicted: true };
      }
    }
    throw new Error(`No end to what is to be done at ${this.#target.alias}`);
  }

  /** Returns what is known without making a request. */
  #known(execution: CommandExecution | undefined): Observed {
    const { agents } = this.#options;
    // This scans all rooms.
    const agentRooms = execution?.command.word === "status" ? agents.roomsOf(this.#target.alias).length : undefined;
    return {
      watched: this.#watched,
      readAtMs: this.#readAtMs,
      seenUnready: this.#seenUnready,
      seenReadySinceMs: this.#seenReadySinceMs,
      diagnosis: this.#diagnosis,
      schedule: this.#schedule?.at(this.#options.clock.now()),
      isCatchingUp: this.#isCatchingUp(),
      activity: this.#currentActivity(),
      agentRooms,
      wakeFailedAtMs: this.#wakeFailedAtMs,
    };
  }

  /** Whether events from before the start are still being read. Only a schedule needs to know. */
  #isCatchingUp(): boolean {
    const { clock, journal } = this.#options;
    const sinceMs = clock.now() - this.#startedAtMs;
    return this.#schedule !== undefined && sinceMs < MAX_CATCHING_UP_MS && journal.newEvents(0).length > 0;
  }

  /** Returns the latest activity. A time in the future was recorded before the clock was set back; it counts as now. */
  #currentActivity(): AgentActivity {
    const nowMs = this.#options.clock.now();
    const { userAtMs, agentAtMs } = this.#activity;
    this.#activity = {
      ...this.#activity,
      ...userAtMs === undefined ? {} : { userAtMs: Math.min(nowMs, userAtMs) },
      ...agentAtMs === undefined ? {} : { agentAtMs: Math.min(nowMs, agentAtMs) },
    };
    return { ...this.#activity, isAgentTyping: this.#typing.size > 0 };
  }

  #state(execution: CommandExecution | undefined): State {
    const state = this.#options.states.of(this.#workload);
    if (execution === undefined) return state;
    const { command: { event, word, typed, durationMs, steps }, takenAtMs, unconfirmed, unansweredTold } = execution;
    const nowMs = this.#options.clock.now();
    const { seq, sender, roomId, receivedAtMs } = event;
    return {
      ...state,
      command: {
        ...{ seq, receivedAtMs, word, typed, durationMs, sender, roomId, takenAtMs, unconfirmed, unansweredTold },
        ...inThread(threadOf(event)),
        isOnly: steps.size === 1,
        sentAtMs: nowMs - ageOf(event, nowMs),
      },
    };
  }

  /** Performs a call and returns what it observed. */
  async #call(call: Call, execution: CommandExecution | undefined): Promise<Partial<Observed>> {
    const { stop, authorize } = this.#options;
    const signal = execution?.readDeadline.signal ?? AbortSignal.any([stop, this.#passAbort.signal]);
    if (execution !== undefined) execution.waitingFor = partyOf(call);
    try {
      switch (call.kind) {
        case "read":
          return { scale: await this.#read(signal, execution) };
        case "diagnose":
          return { diagnosis: await this.#diagnose(call.scale, signal) };
        case "authorize":
          if (execution === undefined) throw new Error("Cannot authorize what no command asks for");
          return { authorization: { refusal: await authorize(execution.command.event, signal) } };
        case "scale":
          await this.#scale(call, execution);
      }
      return { accepted: call.intent, scale: undefined };
    } finally {
      if (execution !== undefined) execution.waitingFor = undefined;
    }
  }

  async #read(signal: AbortSignal, execution: CommandExecution | undefined): Promise<Scale> {
    const { scaler, clock } = this.#options;
    const scale = await scaler.read(this.#target, signal);
    // What a command reads, the loop doesn't get to see.
    if (execution === undefined) this.#readAtMs = clock.now();
    this.#recordCounts(scale);
    return scale;
  }

  #recordCounts(scale: Scale): void {
    const { observer, clock } = this.#options;
    observer.replicas(this.#target.alias, scale);
    this.#seenUnready ||= !isReady(scale);
    this.#seenReadySinceMs = isReady(scale) ? this.#seenReadySinceMs ?? clock.now() : undefined;
  }

  /** Diagnoses the target, as far as permissions allow. */
  async #diagnose(scale: Scale, signal: AbortSignal): Promise<Diagnosis & { readonly atMs: number }> {
    const { rollouts, clock } = this.#options;
    const atMs = clock.now();
    try {
      this.#diagnosis = { ...await rollouts.diagnose(this.#target, scale, signal), atMs };
    } catch (error) {
      signal.throwIfAborted();
      if (isFatal(error) && !(error instanceof CredentialError)) throw error;
      logger.warn("failed to diagnose {target}: {reason}", { target: this.#target.alias, reason: errorMessage(error) });
      this.#diagnosis = { problems: [], missingPermission: undefined, atMs };
    }
    return this.#diagnosis;
  }

  /** Persists the intent, then changes the replica count. */
  async #scale(call: Extract<Call, { kind: "scale" }>, execution: CommandExecution | undefined): Promise<void> {
    const { scaler, observer, clock, journal, states, stop, abandon } = this.#options;
    const { alias } = this.#target;
    const { intent } = call;
    (execution?.readDeadline.signal ?? stop).throwIfAborted();
    if (execution !== undefined) {
      const { command } = execution;
      command.steps.set(this.#workload, { target: alias, workload: this.#workload, intent });
      journal.saveCommand(command.event.seq, storedCommand(command));
    } else {
      this.#write([{ kind: "remember", changes: withIntent(states.of(this.#workload), call) }], undefined);
    }
    using scaleDeadline = execution === undefined ? new Deadline(COMMAND_TRIED_FOR_MS, abandon, { clock }) : undefined;
    try {
      await scaler.scale(
        this.#target,
        intent.after,
        intent.resourceVersion,
        scaleDeadline?.signal ?? execution?.scaleDeadline.signal ?? abandon,
      );
    } catch (error) {
      if (execution !== undefined && !isRefusedChange(error)) execution.unconfirmed = intent;
      throw error;
    }
    observer.scaled(alias, clock.now() - intent.atMs);
  }

  /** Records a failed call. Rethrows the error if it is fatal or the operator is stopping. */
  #failed(error: unknown, call: Call, execution: CommandExecution | undefined): Failure {
    const { stop } = this.#options;
    if (stop.aborted && !isTimeout(error, execution)) throw isFatal(error) ? error : stop.reason;
    const party = partyOf(call);
    // The cluster may accept our credentials again later. If the homeserver refuses them, the login has ended.
    if (isFatal(error) && !(error instanceof CredentialError && party === "Kubernetes API")) throw error;
    const why = this.#refusalOf(error, execution);
    const failure = (execution?.failures ?? this.#failures).add(party, why, error);
    logger.warn("failed to {what} {target}, trying again in {wait} s: {reason}", {
      what: call.kind,
      target: this.#target.alias,
      wait: Math.ceil((failure.retryAtMs - this.#options.clock.now()) / 1_000),
      reason: errorMessage(error),
    });
    return failure;
  }

  /** Returns why the API server refused a call; undefined if a retry may succeed. */
  #refusalOf(error: unknown, execution: CommandExecution | undefined): Why | undefined {
    const { kind, namespace, name } = this.#target;
    if (error instanceof PermissionError) return { kind: "not-permitted", verb: error.verb, resource: error.resource };
    if (error instanceof NotFoundError) {
      return { kind: "not-found", target: `${kind} ${name} in namespace ${namespace}` };
    }
    // A command is answered at once. Any other call is retried.
    if (execution === undefined) return undefined;
    if (error instanceof CredentialError) return { kind: "rejected", reason: "Unauthorized" };
    if (error instanceof RejectedError) return { kind: "rejected", reason: error.code || `${error.status}` };
    return undefined;
  }

  /** Performs the writes of a decision in one transaction. */
  #write(writes: readonly Write[], execution: CommandExecution | undefined): void {
    if (writes.length === 0) return;
    const { transaction, states, drain } = this.#options;
    const earlier = execution && [...execution.command.steps.values()].map(({ end }) => end?.outcome);
    transaction(() => {
      for (const write of writes) this.#perform(write, execution);
      states.save();
    });
    for (const write of writes) this.#recordOutcome(write, execution, earlier ?? []);
    drain();
  }

  #perform(write: Write, execution: CommandExecution | undefined): void {
    const { states, messages } = this.#options;
    switch (write.kind) {
      case "remember":
        return states.change(this.#workload, write.changes);
      case "answer":
        return this.#endCommand(write, execution);
      case "say-waiting":
        return this.#showWaiting(write, execution);
      case "update":
        return messages.update(this.#target, write);
      case "unfollow":
        return messages.unfollow(this.#target);
      case "announce":
        return messages.announce(this.#target, write);
      case "notice":
        return messages.notice(this.#target, write);
      case "record":
        return;
    }
  }

  /** Ends a command at this target. The last of its targets settles the event. */
  #endCommand(write: Extract<Write, { kind: "answer" }>, execution: CommandExecution | undefined): void {
    if (execution === undefined) throw new Error("Cannot answer what nobody has asked");
    const { messages } = this.#options;
    const { command } = execution;
    const { alias } = this.#target;
    const { outcome, refusal, news, before, after, followed, alert } = write;
    const text = news && messages.sentence(this.#target, news);
    const counts = { ...before === undefined ? {} : { before }, ...after === undefined ? {} : { after } };
    const end = { outcome: refusal ?? outcome, ...text === undefined ? {} : { text }, ...counts };
    command.steps.set(this.#workload, { target: alias, workload: this.#workload, end });
    if (followed && text !== undefined) messages.follow(command, this.#target, text);
    messages.settle(command, alert && { target: this.#target, news: alert });
    execution.isOver = true;
  }

  /** Also records the command, so that it edits the message if it is resumed after a restart. */
  #showWaiting({ news }: Extract<Write, { kind: "say-waiting" }>, execution: CommandExecution | undefined): void {
    if (execution === undefined) throw new Error("Cannot have nobody wait");
    const { messages, journal } = this.#options;
    messages.showWaiting(execution.command, this.#target, news);
    journal.saveCommand(execution.command.event.seq, storedCommand(execution.command));
    execution.unansweredTold = true;
  }

  /** Updates audit trail and metrics after the writes. `earlier` has the outcomes at other targets so far. */
  #recordOutcome(
    write: Write,
    execution: CommandExecution | undefined,
    earlier: readonly (string | undefined)[],
  ): void {
    const { audit, observer, clock } = this.#options;
    const { alias } = this.#target;
    if (write.kind === "record") audit.changed(this.#target, write.reason, write.cause, write.message);
    if (write.kind === "update" && write.news.kind === "ready") {
      const { afterMs, afterMessageMs } = write.news;
      observer.ready(alias, afterMs);
      if (afterMessageMs !== undefined) observer.woken(alias, afterMessageMs);
    }
    if (write.kind !== "answer" || execution === undefined) return;
    const { outcome, refusal, news, before, after } = write;
    const { event, word: command } = execution.command;
    if (command === "wake" && outcome === "failed" && news !== undefined) this.#wakeFailedAtMs = clock.now();
    // If several targets refuse a command for the same reason, it is recorded once.
    if (refusal !== undefined && !earlier.includes(refusal)) audit.refused(event, refusal);
    // Messages to an agent that is awake are not recorded.
    if (news === undefined) return;
    audit.commanded(event, { command, target: alias, outcome, before, after, ms: clock.now() - execution.takenAtMs });
  }

  /** Shows in the command's message that a server isn't answering, even while a call hangs. */
  #reportIfUnanswered(execution: CommandExecution): void {
    if (execution.unansweredTold) return;
    const { queue, clock, policy } = this.#options;
    queue.run(`unanswered ${execution.command.event.seq} ${this.#target.alias}`, async () => {
      try {
        await clock.sleep(UNANSWERED_TOLD_AFTER_MS, execution.ended);
      } catch (error) {
        if (error === execution.ended.reason) return;
        throw error;
      }
      const { waitingFor, failures: { latest: failure } } = execution;
      if (waitingFor === undefined && failure === undefined) return;
      const observed: Observed = { ...this.#known(execution), waitingFor, failure };
      this.#write(decide(this.#state(execution), observed, clock.now(), policy).effects.filter(isWrite), execution);
    });
  }

  async #watch(): Promise<void> {
    const { rollouts, clock, stop, newBackoff, observer } = this.#options;
    const { alias } = this.#target;
    for (let backoff = newBackoff();;) {
      let waitMs = 1_000;
      try {
        for await (const scale of rollouts.watch(this.#target, stop)) {
          if (this.#watched === undefined) backoff = newBackoff();
          this.#show(scale);
        }
      } catch (error) {
        stop.throwIfAborted();
        if (isFatal(error) && !(error instanceof CredentialError)) throw error;
        if (error instanceof PermissionError) waitMs = FORBIDDEN_FOR_MS;
        else if (error instanceof NotFoundError) waitMs = MISSING_TARGET_MS;
        else {
          waitMs = waitAfter(backoff, error);
          observer.retried();
        }
        logger.debug("failed to watch {target}: {reason}", { target: alias, reason: errorMessage(error) });
      }
      this.#show(undefined);
      await clock.sleep(waitMs, stop);
    }
  }

  /**
   * Takes over what the watch shows; undefined if it has ended or there is no target. Wakes the loop, unless only the
   * resourceVersion is another one.
   */
  #show(scale: Scale | undefined): void {
    const before = this.#watched;
    this.#watched = scale;
    if (scale === undefined ? before === undefined : before !== undefined && hasSameCounts(scale, before)) return;
    this.#shown = scale;
    if (scale !== undefined) this.#recordCounts(scale);
    this.#wakeup.notify();
  }
}

function hasSameCounts(
  { resourceVersion: _, ...counts }: Scale,
  { resourceVersion: __, ...others }: Scale,
): boolean {
  return JSON.stringify(counts) === JSON.stringify(others);
}

/** Returns the state with the intent of a change that no command has asked for, stored with the cause of the change. */
function withIntent({ idle, timer, schedule }: TargetState, call: Extract<Call, { kind: "scale" }>): TargetState {
  const { intent } = call;
  if (call.for === "timer") return { timer: timer && { ...timer, intent } };
  if (call.for === "schedule") return { schedule: schedule && { ...schedule, intent } };
  return { idle: idle?.warning && { ...idle, warning: { ...idle.warning, intent } } };
}

function isWrite(effect: Effect): effect is Write {
  return !["read", "diagnose", "authorize", "scale"].includes(effect.kind);
}

function partyOf(call: Call): Party {
  return call.kind === "authorize" ? "homeserver" : "Kubernetes API";
}

/** Whether the API server has refused a change, so that it was certainly not made. */
function isRefusedChange(error: unknown): boolean {
  return error instanceof ConflictError || error instanceof PermissionError || error instanceof NotFoundError ||
    error instanceof RejectedError;
}

/** Whether the command's own deadline has expired, as opposed to the operator stopping. */
function isTimeout(error: unknown, execution: CommandExecution | undefined): boolean {
  return execution !== undefined && execution.scaleDeadline.expired && error === execution.scaleDeadline.signal.reason;
}
