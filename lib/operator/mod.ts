/**
 * The core: what is done, in which order, and what is answered.
 *
 * @module
 */

export type { Pin, Pins, SenderTrust, UntrustedReason } from "../authorization/mod.ts";
export type { Backoff, BackoffPolicy, Clock, NextTry } from "../async.ts";
export type { CommandRecord, Observer, Outcome, Refusal } from "./audit.ts";
export type { TargetPolicy } from "./decision.ts";
export type { MessageSettings } from "./event_processor.ts";
export type { TrustSettings } from "./judgement.ts";
export { Operator, type OperatorParts, type OperatorSettings } from "./operator.ts";
export type * from "./ports.ts";
export type { NewBackoff } from "./retrying.ts";
