/**
 * The core: what is done, in which order, and what is answered.
 *
 * @module
 */

export type { Pin, Pins, SenderTrust, UntrustedReason } from "../authorization/mod.ts";
export type { Backoff, BackoffPolicy, Clock, NextTry } from "../async.ts";
export { Operator } from "./operator.ts";
export type * from "./ports.ts";
export type { CommandRecord, NewBackoff, Observer, Outcome, Parts, Refusal, Settings } from "./settings.ts";
