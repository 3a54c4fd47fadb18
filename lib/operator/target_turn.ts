/**
 * A command's turn at a target: since when it is tried, what has failed, and what ends its calls.
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

/** What failures are counted with. */
export interface FailureOptions {
  /** Time. */
  readonly clock: Pick<Clock, "now">;
  /** Makes the back-off of one piece of work, which never gives up. */
  readonly newBackoff: NewBackoff;
  /** Who counts. */
  readonly observer: Pick<Observer, "retried">;
}

/** What a turn uses. */
export interface TurnOptions extends FailureOptions {
  /** Time. */
  readonly clock: Clock;
  /** Ends calls that change nothing. */
  readonly stop: AbortSignal;
  /** Ends all calls. */
  readonly abandon: AbortSignal;
}

/** Calls that have failed in a row. */
export class Failures {
  /** The latest one, until something has gone well. */
  latest: Failure | undefined;
  readonly #options: FailureOptions;
  #backoff: Backoff;
  #sinceMs = 0;

  constructor(options: FailureOptions) {
    this.#options = options;
    this.#backoff = options.newBackoff();
  }

  /** Counts one. */
  add(party: Party, why: Why | undefined, error: unknown): Failure {
    const { clock, observer } = this.#options;
    const nowMs = clock.now();
    if (this.#backoff.failures === 0) this.#sinceMs = nowMs;
    const waitMs = waitAfter(this.#backoff, error);
    observer.retried();
    return this.latest = { party, why, sinceMs: this.#sinceMs, retryAtMs: nowMs + waitMs };
  }

  /** Something has gone well. */
  clear(): void {
    if (this.latest === undefined) return;
    this.latest = undefined;
    this.#backoff = this.#options.newBackoff();
  }
}

/** A command's turn at a target. */
export class Turn implements Disposable {
  readonly command: TargetCommand;
  readonly takenAtMs: number;
  readonly failures: Failures;
  /** A change that was sent, and whose outcome nobody has told. */
  unconfirmed: Intent | undefined;
  /** Its message says that somebody isn't answering. */
  unansweredTold: boolean;
  /** Whom a call is made to. */
  waitingFor: Party | undefined;
  isOver = false;
  /** Ends calls that change nothing. */
  readonly readDeadline: Deadline;
  /** Ends the call that changes the count. */
  readonly scaleDeadline: Deadline;
  readonly #over = new AbortController();

  constructor(
    command: TargetCommand,
    options: TurnOptions,
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

  /** Aborted when it is over. */
  get over(): AbortSignal {
    return this.#over.signal;
  }

  [Symbol.dispose](): void {
    this.#over.abort();
    this.readDeadline[Symbol.dispose]();
    this.scaleDeadline[Symbol.dispose]();
  }
}

/** How long to wait after a failure, milliseconds. */
export function waitAfter(backoff: Backoff, error: unknown): number {
  const next = backoff.failed(error instanceof TransientError ? error.retryAfterMs : 0);
  if (!next.retry) throw new Error("A target's back-off gives up");
  return next.waitMs;
}
