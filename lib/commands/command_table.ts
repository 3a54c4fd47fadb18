/**
 * The table of commands: words, aliases and help. How commands are carried out is decided elsewhere.
 *
 * @module
 */

/** A row of the command table. */
interface Row {
  readonly word: string;
  readonly aliases: readonly string[];
  /** Arguments that may follow, in this order. */
  readonly takes: readonly ("target" | "duration")[];
  /** Arguments as help shows them. `takes` says which ones are accepted. */
  readonly example?: string;
  readonly meaning: string;
}

/** All commands, in the order of help. */
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

/** Canonical word of a command. */
export type CommandWord = typeof commandTable[number]["word"];

/** A row of the command table, with the type of its word. */
export type CommandRow = Row & { readonly word: CommandWord };

/** Finds a command by its word or an alias, in lower case. */
export function findCommand(name: string): CommandRow | undefined {
  const rows: readonly CommandRow[] = commandTable;
  return rows.find(({ word, aliases }) => word === name || aliases.includes(name));
}
