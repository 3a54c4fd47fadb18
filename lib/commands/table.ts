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
  /** What may stand behind it, in this order. */
  readonly takes: readonly ("target" | "duration")[];
  readonly meaning: string;
}

/** Every command, in the order in which help tells them. */
export const commandTable = [
  {
    word: "start",
    aliases: ["on"],
    takes: ["target", "duration"],
    meaning: "switch it on; with a duration, for that long",
  },
  { word: "stop", aliases: ["off"], takes: ["target"], meaning: "switch it off" },
  { word: "extend", aliases: [], takes: ["target", "duration"], meaning: "let it run that much longer" },
  { word: "status", aliases: [], takes: ["target"], meaning: "tell how it is" },
  { word: "help", aliases: [], takes: [], meaning: "tell these commands" },
] as const satisfies readonly Row[];

/** A command's canonical word. */
export type CommandWord = typeof commandTable[number]["word"];

/** A row of the table. */
export type CommandRow = Row & { readonly word: CommandWord };

/** Finds a command by what people call it: a word or an alias, in lower case. */
export function findCommand(name: string): CommandRow | undefined {
  const rows: readonly CommandRow[] = commandTable;
  return rows.find(({ word, aliases }) => word === name || aliases.includes(name));
}
