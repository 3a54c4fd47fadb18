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
  /** What stands behind it in help; `takes` says what may. */
  readonly example?: string;
  readonly meaning: string;
}

/** Every command, in the order in which help tells them. */
export const commandTable = [
  {
    word: "start",
    aliases: ["on"],
    takes: ["target", "duration"],
    meaning: "turn it on",
  },
  { word: "stop", aliases: ["off"], takes: ["target"], meaning: "turn it off" },
  {
    word: "extend",
    aliases: [],
    takes: ["target", "duration"],
    example: "1h",
    meaning: "keep it on for another hour",
  },
  { word: "status", aliases: [], takes: ["target"], meaning: "show whether it's running" },
  { word: "help", aliases: [], takes: [], meaning: "list commands" },
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
