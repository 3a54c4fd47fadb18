/**
 * One loop a target: observe, decide, act, wait. All that happens at a target goes through it: commands, one at a time in
 * the order in which they were submitted; its timer; rollouts; changes by others. A watch, where it is permitted, only
 * wakes it: conclusions rest on reads. Targets don't wait for each other, and a status waits for nothing.
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
  isFatal,
  NotFoundError,
  PermissionError,
  RejectedError,
} from "../errors.ts";
import type { Agents } from "./agents.ts";
import type { Audit, Observer, Refusal } from "./audit.ts";
import { COMMAND_TRIED_FOR_MS, decide, isReady, UNANSWERED_TOLD_AFTER_MS } from "./decide.ts";
import type { Call, Effect, Failure, Life, Observed, Party, State, TargetPolicy, Write } from "./decision.ts";
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
import { Failures, Turn, waitAfter } from "./target_turn.ts";

const logger = getLogger(["openclaw-toggle", "operator"]);

/** A watch that isn't permitted is asked for again after so long: the permission may have been granted. */
const WATCH_FORBIDDEN_FOR_MS = 300_000;
/** A target that doesn't exist is looked for so often: it may be created again. */
const MISSING_TARGET_MS = 5_000;
/** So often a target may change between reading and writing before that counts as a failure. */
const MAX_CONFLICTS = 5;
/** So long messages from before the start are waited for, at most. */
const CATCHES_UP_FOR_MS = 30_000;
/** More decisions than this without a wait are a fault of ours. */
const MAX_DECISIONS = 100;

/** What a target worker uses. */
export interface TargetWorkerOptions {
  /** Reads and sets counts. */
  readonly scaler: Scaler;
  /** Watches, and tells what keeps a target from being ready. */
  readonly rollouts: Pick<Rollouts, "watch" | "diagnose">;
  /** Holds commands and what is to be sent. */
  readonly journal: Pick<Journal, "arrived" | "begin">;
  /** What lasts of the targets. */
  readonly states: TargetStates;
  /** Puts into words what is decided. */
  readonly messages: StatusMessages;
  /** Has calls to journal and states made as one: all of them last, or none. */
  readonly transaction: (calls: () => void) => void;
  /** Whether a command may still be carried out: why not. */
  readonly authorize: (inbox: InboxEvent, signal: AbortSignal) => Promise<Refusal | undefined>;
  /** Sends what the journal holds unsent. */
  readonly drain: () => void;
  /** Where agents are. */
  readonly agents: Agents;
  /** What decisions rest on. */
  readonly policy: TargetPolicy;
  /** When the target is up; empty: it has no schedule. */
  readonly upTimes: readonly UpTime[];
  /** Time. */
  readonly clock: Clock;
  /** Makes the back-off of one piece of work, which never gives up. */
  readonly newBackoff: NewBackoff;
  /** Who counts. */
  readonly observer: Observer;
  /** Who keeps the account. */
  readonly audit: Audit;
  /** Runs it in the background. */
  readonly queue: KeyedQueue;
  /** Ends everything but a change that has been begun. */
  readonly stop: AbortSignal;
  /** Ends that, too. */
  readonly abandon: AbortSignal;
}

/** Works at one target. */
export class TargetWorker {
  readonly #target: Target;
  readonly #workload: string;
  readonly #options: TargetWorkerOptions;
  readonly #wakeup = new Wakeup();
  readonly #commands: { readonly command: TargetCommand; readonly over: () => void }[] = [];
  /** Whoever waits for commands to be over. */
  readonly #waiting = new Set<() => void>();
  readonly #failures: Failures;
  readonly #schedule: Schedule | undefined;
  #startedAtMs = 0;
  /** Ends the look under way, so that a command needn't wait for it. */
  #look = new AbortController();
  /** What was written in the rooms of its agents. */
  #life: Life = {};
  /** Agents who are typing, by room. */
  readonly #typing = new Map<string, readonly string[]>();
  /** When a message last failed to wake it. */
  #wakeFailedAtMs: number | undefined;
  #isWatched = false;
  /** What the watch has shown since the last look. */
  #shown: Scale | undefined;
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

  /** Works and watches from now on. */
  start(): void {
    const { queue, clock, stop } = this.#options;
    const { alias } = this.#target;
    this.#startedAtMs = clock.now();
    stop.addEventListener("abort", () => this.#waiting.forEach((over) => over()), { once: true });
    queue.run(`target ${alias}`, () => this.#run());
    queue.run(`watch ${alias}`, () => this.#watch());
  }

  /** Carries a command out when it is its turn; resolves when it is over here, or the operator is told to end. */
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
      queue.run(`status ${command.inbox.seq} ${this.#target.alias}`, () => this.#carryOut(command).then(over));
    } else {
      this.#commands.push({ command, over });
      this.#look.abort();
      this.#wakeup.notify();
    }
    return promise;
  }

  /** Something was written in the rooms of its agents. */
  lived({ userAtMs = -Infinity, agentAtMs = -Infinity, roomId }: Life): void {
    const { userAtMs: userBefore = -Infinity, agentAtMs: agentBefore = -Infinity } = this.#life;
    if (userAtMs > userBefore) this.#life = { ...this.#life, userAtMs, ...roomId === undefined ? {} : { roomId } };
    if (agentAtMs > agentBefore) this.#life = { ...this.#life, agentAtMs };
    this.#wakeup.notify();
  }

  /** These agents of it are typing now in a room. */
  typing(roomId: string, agents: readonly string[]): void {
    const before = this.#typing.get(roomId) ?? [];
    if (agents.length === 0) this.#typing.delete(roomId);
    else this.#typing.set(roomId, agents);
    if (before.length + agents.length > 0) this.lived({ agentAtMs: this.#options.clock.now() });
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
      await this.#carryOut(next.command);
      this.#commands.shift();
      next.over();
    }
  }

  /** Until the command is over. */
  async #carryOut(command: TargetCommand): Promise<void> {
    const { stop, clock, states } = this.#options;
    const { roomId, eventId } = command.inbox;
    const unconfirmed = command.steps.get(this.#workload)?.intent;
    const lines = states.message(roomId, eventId)?.lines ?? [];
    const isTold = lines.some(({ workload, state }) => workload === this.#workload && state === "waiting");
    using turn = new Turn(command, this.#options, unconfirmed, isTold);
    this.#tellIfUnanswered(turn);
    for (;;) {
      const requeueAfterMs = await this.#reconcile(turn);
      if (turn.isOver) return;
      await clock.sleep(requeueAfterMs ?? 0, stop);
    }
  }

  /** Observes, decides and acts until nothing is left to do; returns when to do so again, milliseconds from now. */
  async #reconcile(turn: Turn | undefined): Promise<number | undefined> {
    const { clock, stop } = this.#options;
    try {
      return await this.#decideAndAct(turn);
    } catch (error) {
      if (stop.aborted || isFatal(error)) throw error;
      logger.error("failed to work on {target}: {reason}", {
        target: this.#target.alias,
        reason: String(error),
        error,
      });
      if (turn === undefined) return this.#failures.add("Kubernetes API", undefined, error).retryAtMs - clock.now();
      const { word } = turn.command;
      const news = { kind: "failed", word: word === "wake" ? "start" : word, why: { kind: "internal" } } as const;
      this.#write([{ kind: "answer", outcome: "failed", news, followed: false }], turn);
      return undefined;
    }
  }

  async #decideAndAct(turn: Turn | undefined): Promise<number | undefined> {
    const { clock, policy } = this.#options;
    const failures = turn?.failures ?? this.#failures;
    const shown = this.#shown;
    if (turn === undefined) this.#look = new AbortController();
    let learnt: Partial<Observed> = { shown, failure: failures.latest };
    let conflicts = 0;
    for (let decisions = 0; decisions < MAX_DECISIONS; decisions += 1) {
      const observed: Observed = { ...this.#standing(turn), ...learnt };
      const { effects, requeueAfterMs } = decide(this.#state(turn), observed, clock.now(), policy);
      if (effects.length === 0) {
        if (observed.failure !== undefined) return requeueAfterMs;
        failures.clear();
        if (turn === undefined && this.#shown === shown) this.#shown = undefined;
        return requeueAfterMs;
      }
      this.#write(effects.filter(isWrite), turn);
      if (turn?.isOver) return undefined;
      learnt = { ...learnt, accepted: undefined };
      const call = effects.find((effect): effect is Call => !isWrite(effect));
      if (call === undefined) continue;
      try {
        learnt = { ...learnt, failure: undefined, ...await this.#call(call, turn) };
      } catch (error) {
        // A command waits; it looks for itself.
        const isInterrupted = turn === undefined && this.#look.signal.aborted && call.kind !== "scale";
        if (isInterrupted && !isFatal(error)) return 0;
        // Somebody was faster: it is read again at once, a few times.
        const isRace = error instanceof ConflictError && ++conflicts < MAX_CONFLICTS;
        const failure = isRace ? undefined : this.#failed(error, call, turn);
        learnt = { ...learnt, scale: undefined, authorization: undefined, failure };
      }
    }
    throw new Error(`No end to what is to be done at ${this.#target.alias}`);
  }

  /** What is known without asking anybody. */
  #standing(turn: Turn | undefined): Observed {
    const { agents } = this.#options;
    // It takes a look at all rooms.
    const agentRooms = turn?.command.word === "status" ? agents.roomsOf(this.#target.alias).length : undefined;
    return {
      isWatched: this.#isWatched,
      seenUnready: this.#seenUnready,
      seenReadySinceMs: this.#seenReadySinceMs,
      diagnosis: this.#diagnosis,
      schedule: this.#schedule?.at(this.#options.clock.now()),
      isCatchingUp: this.#isCatchingUp(),
      life: this.#lifeNow(),
      agentRooms,
      wakeFailedAtMs: this.#wakeFailedAtMs,
    };
  }

  /** Messages that came before the start are still being read. */
  #isCatchingUp(): boolean {
    const { clock, journal } = this.#options;
    const sinceMs = clock.now() - this.#startedAtMs;
    return this.#schedule !== undefined && sinceMs < CATCHES_UP_FOR_MS && journal.arrived(0).length > 0;
  }

  /** Nothing is written in the future: what seems so was seen before the clock was set back. */
  #lifeNow(): Life {
    const nowMs = this.#options.clock.now();
    const { userAtMs, agentAtMs } = this.#life;
    this.#life = {
      ...this.#life,
      ...userAtMs === undefined ? {} : { userAtMs: Math.min(nowMs, userAtMs) },
      ...agentAtMs === undefined ? {} : { agentAtMs: Math.min(nowMs, agentAtMs) },
    };
    return { ...this.#life, isAgentTyping: this.#typing.size > 0 };
  }

  #state(turn: Turn | undefined): State {
    const state = this.#options.states.of(this.#workload);
    if (turn === undefined) return state;
    const { command: { inbox, word, typed, durationMs, steps }, takenAtMs, unconfirmed, unansweredTold } = turn;
    const nowMs = this.#options.clock.now();
    const { seq, sender, roomId, receivedAtMs } = inbox;
    return {
      ...state,
      command: {
        ...{ seq, receivedAtMs, word, typed, durationMs, sender, roomId, takenAtMs, unconfirmed, unansweredTold },
        ...inThread(threadOf(inbox)),
        isOnly: steps.size === 1,
        sentAtMs: nowMs - ageOf(inbox, nowMs),
      },
    };
  }

  /** Asks the world; what it has answered. */
  async #call(call: Call, turn: Turn | undefined): Promise<Partial<Observed>> {
    const { stop, authorize } = this.#options;
    const signal = turn?.readDeadline.signal ?? AbortSignal.any([stop, this.#look.signal]);
    if (turn !== undefined) turn.waitingFor = partyOf(call);
    try {
      switch (call.kind) {
        case "read":
          return { scale: await this.#read(signal) };
        case "diagnose":
          return { diagnosis: await this.#diagnose(signal) };
        case "authorize":
          if (turn === undefined) throw new Error("Cannot authorize what no command asks for");
          return { authorization: { refusal: await authorize(turn.command.inbox, signal) } };
        case "scale":
          await this.#scale(call, turn);
      }
      return { accepted: call.intent, scale: undefined };
    } finally {
      if (turn !== undefined) turn.waitingFor = undefined;
    }
  }

  async #read(signal: AbortSignal): Promise<Scale> {
    const { scaler, clock } = this.#options;
    const scale = await scaler.read(this.#target, signal);
    this.#seen(scale);
    this.#seenReadySinceMs = isReady(scale) ? this.#seenReadySinceMs ?? clock.now() : undefined;
    return scale;
  }

  #seen(scale: Scale): void {
    this.#options.observer.replicas(this.#target.alias, scale);
    this.#seenUnready ||= !isReady(scale);
  }

  /** What keeps the target from being ready, as far as we may know. */
  async #diagnose(signal: AbortSignal): Promise<Diagnosis & { readonly atMs: number }> {
    const { rollouts, clock } = this.#options;
    const atMs = clock.now();
    try {
      this.#diagnosis = { ...await rollouts.diagnose(this.#target, signal), atMs };
    } catch (error) {
      signal.throwIfAborted();
      if (isFatal(error) && !(error instanceof CredentialError)) throw error;
      logger.warn("failed to diagnose {target}: {reason}", { target: this.#target.alias, reason: errorMessage(error) });
      this.#diagnosis = { problems: [], missingPermission: undefined, atMs };
    }
    return this.#diagnosis;
  }

  /** Writes down what is about to be done, then does it. */
  async #scale(call: Extract<Call, { kind: "scale" }>, turn: Turn | undefined): Promise<void> {
    const { scaler, observer, clock, journal, states, stop, abandon } = this.#options;
    const { alias } = this.#target;
    const { intent } = call;
    (turn?.readDeadline.signal ?? stop).throwIfAborted();
    if (turn !== undefined) {
      const { command } = turn;
      command.steps.set(this.#workload, { target: alias, workload: this.#workload, intent });
      journal.begin(command.inbox.seq, storedCommand(command));
    } else {
      this.#write([{ kind: "remember", changes: begun(states.of(this.#workload), call) }], undefined);
    }
    using scaleDeadline = turn === undefined ? new Deadline(COMMAND_TRIED_FOR_MS, abandon, { clock }) : undefined;
    try {
      await scaler.scale(
        this.#target,
        intent.after,
        intent.resourceVersion,
        scaleDeadline?.signal ?? turn?.scaleDeadline.signal ?? abandon,
      );
    } catch (error) {
      if (turn !== undefined && !isAnswered(error)) turn.unconfirmed = intent;
      throw error;
    }
    observer.scaled(alias, clock.now() - intent.atMs);
  }

  /** A call's failure is the call's alone, unless it ends the process. */
  #failed(error: unknown, call: Call, turn: Turn | undefined): Failure {
    const { stop } = this.#options;
    if (stop.aborted && !isTimeout(error, turn)) throw isFatal(error) ? error : stop.reason;
    const party = partyOf(call);
    // What the cluster refuses us may be granted again; what the homeserver does ends the login.
    if (isFatal(error) && !(error instanceof CredentialError && party === "Kubernetes API")) throw error;
    const why = this.#whyRefused(error, turn);
    const failure = (turn?.failures ?? this.#failures).add(party, why, error);
    logger.warn("failed to {what} {target}, trying again in {wait} s: {reason}", {
      what: call.kind,
      target: this.#target.alias,
      wait: Math.ceil((failure.retryAtMs - this.#options.clock.now()) / 1_000),
      reason: errorMessage(error),
    });
    return failure;
  }

  /** Why the API server refuses it; undefined: that may be different next time. */
  #whyRefused(error: unknown, turn: Turn | undefined): Why | undefined {
    const { kind, namespace, name } = this.#target;
    if (error instanceof PermissionError) return { kind: "not-permitted", verb: error.verb, resource: error.resource };
    if (error instanceof NotFoundError) {
      return { kind: "not-found", target: `${kind} ${name} in namespace ${namespace}` };
    }
    // Whoever commands is told at once; a look is simply taken again.
    if (turn === undefined) return undefined;
    if (error instanceof CredentialError) return { kind: "rejected", reason: "Unauthorized" };
    if (error instanceof RejectedError) return { kind: "rejected", reason: error.code || `${error.status}` };
    return undefined;
  }

  /** Performs what a decision writes down, all at once. */
  #write(writes: readonly Write[], turn: Turn | undefined): void {
    if (writes.length === 0) return;
    const { transaction, states, drain } = this.#options;
    const told = turn && [...turn.command.steps.values()].map(({ end }) => end?.outcome);
    transaction(() => {
      for (const write of writes) this.#perform(write, turn);
      states.save();
    });
    for (const write of writes) this.#account(write, turn, told ?? []);
    drain();
  }

  #perform(write: Write, turn: Turn | undefined): void {
    const { states, messages } = this.#options;
    switch (write.kind) {
      case "remember":
        return states.change(this.#workload, write.changes);
      case "answer":
        return this.#answer(write, turn);
      case "say-waiting":
        return this.#sayWaiting(write, turn);
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

  /** The last target of a command settles its event. */
  #answer(write: Extract<Write, { kind: "answer" }>, turn: Turn | undefined): void {
    if (turn === undefined) throw new Error("Cannot answer what nobody has asked");
    const { messages } = this.#options;
    const { command } = turn;
    const { alias } = this.#target;
    const { outcome, refusal, news, before, after, followed, alert } = write;
    const text = news && messages.sentence(this.#target, news);
    const counts = { ...before === undefined ? {} : { before }, ...after === undefined ? {} : { after } };
    const end = { outcome: refusal ?? outcome, ...text === undefined ? {} : { text }, ...counts };
    command.steps.set(this.#workload, { target: alias, workload: this.#workload, end });
    if (followed && text !== undefined) messages.follow(command, this.#target, text);
    messages.settle(command, alert && { target: this.#target, news: alert });
    turn.isOver = true;
  }

  /** The command is written down, too: whoever takes it up after a restart edits the message. */
  #sayWaiting({ news }: Extract<Write, { kind: "say-waiting" }>, turn: Turn | undefined): void {
    if (turn === undefined) throw new Error("Cannot have nobody wait");
    const { messages, journal } = this.#options;
    messages.sayWaiting(turn.command, this.#target, news);
    journal.begin(turn.command.inbox.seq, storedCommand(turn.command));
    turn.unansweredTold = true;
  }

  /** Keeps account of what was written down. `told`: the outcomes at other targets so far. */
  #account(write: Write, turn: Turn | undefined, told: readonly (string | undefined)[]): void {
    const { audit, observer, clock } = this.#options;
    const { alias } = this.#target;
    if (write.kind === "record") audit.changed(this.#target, write.reason, write.cause, write.message);
    if (write.kind === "update" && write.news.kind === "ready") {
      const { afterMs, afterMessageMs } = write.news;
      observer.ready(alias, afterMs);
      if (afterMessageMs !== undefined) observer.woken(alias, afterMessageMs);
    }
    if (write.kind !== "answer" || turn === undefined) return;
    const { outcome, refusal, news, before, after } = write;
    const { inbox, word: command } = turn.command;
    if (command === "wake" && outcome === "failed" && news !== undefined) this.#wakeFailedAtMs = clock.now();
    // Of several targets the first tells it for all.
    if (refusal !== undefined && !told.includes(refusal)) audit.refused(inbox, refusal);
    // Of what is said to an agent that is awake no account is kept.
    if (news === undefined) return;
    audit.commanded(inbox, { command, target: alias, outcome, before, after, ms: clock.now() - turn.takenAtMs });
  }

  /** Has a command's message say after a while that somebody isn't answering, also while a call hangs. */
  #tellIfUnanswered(turn: Turn): void {
    if (turn.unansweredTold) return;
    const { queue, clock, policy } = this.#options;
    queue.run(`unanswered ${turn.command.inbox.seq} ${this.#target.alias}`, async () => {
      try {
        await clock.sleep(UNANSWERED_TOLD_AFTER_MS, turn.over);
      } catch (error) {
        if (error === turn.over.reason) return;
        throw error;
      }
      const { waitingFor, failures: { latest: failure } } = turn;
      if (waitingFor === undefined && failure === undefined) return;
      const observed: Observed = { ...this.#standing(turn), waitingFor, failure };
      this.#write(decide(this.#state(turn), observed, clock.now(), policy).effects.filter(isWrite), turn);
    });
  }

  async #watch(): Promise<void> {
    const { rollouts, clock, stop, newBackoff, observer } = this.#options;
    const { alias } = this.#target;
    for (let backoff = newBackoff();;) {
      let waitMs = 1_000;
      try {
        for await (const scale of rollouts.watch(this.#target, stop)) {
          if (!this.#isWatched) backoff = newBackoff();
          this.#isWatched = true;
          this.#shown = scale;
          this.#seen(scale);
          this.#wakeup.notify();
        }
      } catch (error) {
        stop.throwIfAborted();
        if (isFatal(error) && !(error instanceof CredentialError)) throw error;
        if (error instanceof PermissionError) waitMs = WATCH_FORBIDDEN_FOR_MS;
        else if (error instanceof NotFoundError) waitMs = MISSING_TARGET_MS;
        else {
          waitMs = waitAfter(backoff, error);
          observer.retried();
        }
        logger.debug("failed to watch {target}: {reason}", { target: alias, reason: errorMessage(error) });
      }
      if (this.#isWatched) {
        this.#isWatched = false;
        this.#wakeup.notify();
      }
      await clock.sleep(waitMs, stop);
    }
  }
}

/** A change that nobody has commanded, written down where its cause is. */
function begun({ idle, timer, schedule }: TargetState, call: Extract<Call, { kind: "scale" }>): TargetState {
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

/** The API server has told what came of a change. */
function isAnswered(error: unknown): boolean {
  return error instanceof ConflictError || error instanceof PermissionError || error instanceof NotFoundError ||
    error instanceof RejectedError;
}

/** The command's time is over; not merely the operator's. */
function isTimeout(error: unknown, turn: Turn | undefined): boolean {
  return turn !== undefined && turn.scaleDeadline.expired && error === turn.scaleDeadline.signal.reason;
}
