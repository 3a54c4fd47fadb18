/**
 * Execution of a command at a target: its deadlines, its failures and the change that it has sent.
 *
 * @module
 */

import { type Backoff, type Clock, Deadline } from "../async.ts";
import type { Why } from "../commands/mod.ts";
import { TransientError } from "../errors.ts";
import type { Observer } from "./audit.ts";
import { COMMAND_TRIED_FOR_MS } from "./decide.ts";
import type { Failure, Party } from "./decision.ts";
import type { NewBackoff } from "./retrier.ts";
import type { Intent, TargetCommand } from "./target_command.ts";

export interface FailureOptions {
  readonly clock: Pick<Clock, "now">;
  /** Creates a back-off that never gives up. */
  readonly newBackoff: NewBackoff;
  readonly observer: Pick<Observer, "retried">;
}

export interface CommandExecutionOptions extends FailureOptions {
  readonly clock: Clock;
  /** Aborts calls that change nothing. */
  readonly stop: AbortSignal;
  /** Aborts all calls. */
  readonly abandon: AbortSignal;
}

/** A series of failed calls. */
export class Failures {
  /** The latest failure; undefined after a success. */
  latest: Failure | undefined;
  readonly #options: FailureOptions;
  #backoff: Backoff;
  #sinceMs = 0;

  constructor(options: FailureOptions) {
    this.#options = options;
    this.#backoff = options.newBackoff();
  }

  /** Counts a failure. */
  add(party: Party, why: Why | undefined, error: unknown): Failure {
    const { clock, observer } = this.#options;
    const nowMs = clock.now();
    if (this.#backoff.failures === 0) this.#sinceMs = nowMs;
    const waitMs = waitAfter(this.#backoff, error);
    observer.retried();
    return this.latest = { party, why, sinceMs: this.#sinceMs, retryAtMs: nowMs + waitMs };
  }

  /** Ends the series after a success. */
  clear(): void {
    if (this.latest === undefined) return;
    this.latest = undefined;
    this.#backoff = this.#options.newBackoff();
  }
}

/** Execution of a command at a target, once it is its turn. */
export class CommandExecution implements Disposable {
  readonly command: TargetCommand;
  readonly takenAtMs: number;
  readonly failures: Failures;
  /** A change that was sent and whose outcome is unknown. */
  unconfirmed: Intent | undefined;
  /** Whether the command's message says that a server isn't answering. */
  unansweredTold: boolean;
  /** Server that a call is waiting for. */
  waitingFor: Party | undefined;
  isOver = false;
  /** Aborts calls that change nothing. */
  readonly readDeadline: Deadline;
  /** Aborts the call that changes the replica count. */
  readonly scaleDeadline: Deadline;
  readonly #ending = new AbortController();

  constructor(
    command: TargetCommand,
    options: CommandExecutionOptions,
    unconfirmed: Intent | undefined,
    unansweredTold: boolean,
  ) {
    const { clock, stop, abandon } = options;
    this.command = command;
    this.failures = new Failures(options);
    this.takenAtMs = clock.now();
    this.unconfirmed = unconfirmed;
    this.unansweredTold = unansweredTold;
    this.readDeadline = new Deadline(COMMAND_TRIED_FOR_MS, stop, { clock });
    this.scaleDeadline = new Deadline(COMMAND_TRIED_FOR_MS, abandon, { clock });
  }

  /** Aborted when it has ended. */
  get ended(): AbortSignal {
    return this.#ending.signal;
  }

  [Symbol.dispose](): void {
    this.#ending.abort();
    this.readDeadline[Symbol.dispose]();
    this.scaleDeadline[Symbol.dispose]();
  }
}

/** Returns the delay after a failure, in milliseconds. */
export function waitAfter(backoff: Backoff, error: unknown): number {
  const next = backoff.failed(error instanceof TransientError ? error.retryAfterMs : 0);
  if (!next.retry) throw new Error("A target's back-off gives up");
  return next.waitMs;
}
