/**
 * The core: who is believed, what is done, in which order, and what is answered.
 *
 * @module
 */

export type { Clock } from "../async.ts";
export type { Disbelief } from "./access.ts";
export { Operator } from "./operator.ts";
export type * from "./ports.ts";
export type { CommandRecord, Observer, Outcome, Parts, Refusal, SenderTrust, Settings, WaitAfter } from "./settings.ts";
