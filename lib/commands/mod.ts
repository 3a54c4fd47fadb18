/**
 * Commands: from the text of a message to a command, and from values to what is answered.
 *
 * @module
 */

export * from "./answers.ts";
export { duration } from "./duration.ts";
export { type Command, type NotACommand, parse } from "./parse.ts";
export { commandTable, type CommandWord } from "./table.ts";
export type { Text } from "./text.ts";
export * from "./trust.ts";
