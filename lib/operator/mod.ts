/**
 * The core of the operator: handles events, carries out commands and answers them.
 *
 * @module
 */

export type { Backoff, BackoffPolicy, Clock, NextTry } from "../async.ts";
export type { Cause, CommandRecord, Observer, Outcome, Refusal } from "./audit.ts";
export { Operator, type OperatorOptions } from "./operator.ts";
export type * from "./ports.ts";
export type { NewBackoff } from "./retrier.ts";
export type { Intent, StepEnd, StoredCommand, TargetStep } from "./target_command.ts";
export type {
  ChatStop,
  FollowedSchedule,
  Idle,
  IdleWarning,
  Rollout,
  StatusLine,
  StatusMessage,
  StopTimer,
  TargetDocument,
  TargetDocumentStore,
  TargetState,
} from "./target_state.ts";
