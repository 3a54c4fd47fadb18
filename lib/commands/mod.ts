/**
 * Parses messages into commands, and makes the sentences that answer them.
 *
 * @module
 */

export * from "./answers.ts";
export { duration, longestMs, parseDuration, shortestMs, timeLeft } from "./duration.ts";
export { type Command, isAddressedTo, type Misuse, type NotACommand, parse } from "./parse.ts";
export * from "./progress.ts";
export { commandTable, type CommandWord } from "./command_table.ts";
export { lines, type Person, type Text } from "./rich_text.ts";
export * from "./trust_refusals.ts";
export type { Moment, Upcoming } from "./upcoming.ts";
