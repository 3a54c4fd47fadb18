/**
 * The one table of commands: their words, what else they are called, and what help says of them. Knows nothing of how
 * they are carried out.
 *
 * @module
 */

/** A row of the table of commands. */
interface Row {
  readonly word: string;
  readonly aliases: readonly string[];
  readonly meaning: string;
}

/** Every command, in the order in which help tells them. */
export const commandTable = [
  { word: "start", aliases: ["on"], meaning: "switch it on" },
  { word: "stop", aliases: ["off"], meaning: "switch it off" },
  { word: "status", aliases: [], meaning: "tell how it is" },
  { word: "help", aliases: [], meaning: "tell these commands" },
] as const satisfies readonly Row[];

/** A command's canonical word. */
export type CommandWord = typeof commandTable[number]["word"];

const wordOf: ReadonlyMap<string, CommandWord> = new Map(
  commandTable.flatMap(({ word, aliases }) => [word, ...aliases].map((name) => [name, word] as const)),
);

/**
 * Finds a command by what people call it.
 *
 * @param name a word or an alias, in lower case
 */
export function findCommand(name: string): CommandWord | undefined {
  return wordOf.get(name);
}
