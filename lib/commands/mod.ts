/**
 * Commands: from the text of a message to a command, and from values to what is answered.
 *
 * @module
 */

export * from "./answers.ts";
export { duration, parseDuration } from "./duration.ts";
export { type Command, type Misuse, type NotACommand, parse } from "./parse.ts";
export { type CommandRow, commandTable, type CommandWord, findCommand } from "./table.ts";
export { lines, type Text } from "./text.ts";
export * from "./trust.ts";
