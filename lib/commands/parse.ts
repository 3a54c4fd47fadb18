/**
 * From the text of a message to a command. Knows nothing of who wrote it, nor whether it is to be obeyed.
 *
 * @module
 */

import { type CommandWord, findCommand } from "./table.ts";

/** A message that is a command. */
export interface Command {
  /** Tells it from {@linkcode NotACommand}. */
  readonly kind: "command";
  /** The canonical word, whichever alias was used. */
  readonly word: CommandWord;
  /** What stands behind the word; empty if nothing does. */
  readonly argument: string;
  /** What was typed, trimmed and without the mention. */
  readonly text: string;
}

/** A message that is no command. */
export interface NotACommand {
  /** Tells it from {@linkcode Command}. */
  readonly kind: "unknown";
  /** What was typed, trimmed and without the mention. */
  readonly text: string;
  /** The operator's name stands first, so that an answer is expected. */
  readonly addressed: boolean;
}

/**
 * Reads a message: the whole of it, in any case, is a command or it is not. A mention of the operator before the
 * command is taken off: its user id, the localpart of that or another name, as plain text or as a matrix.to link.
 *
 * @param text body of the message
 * @param names what the operator is called: user ids and display names
 */
export function parse(text: string, names: readonly string[]): Command | NotACommand {
  const whole = text.trim();
  const unmentioned = commandIn(whole);
  if (unmentioned !== undefined) return unmentioned;

  const mention = mentionIn(whole, names);
  if (mention === undefined) return { kind: "unknown", text: whole, addressed: false };
  return commandIn(mention.rest) ?? {
    kind: "unknown",
    text: mention.rest === "" ? whole : mention.rest,
    addressed: mention.plain,
  };
}

function commandIn(text: string): Command | undefined {
  const [, name = "", argument = ""] = /^(\S+)(?:\s+(\S+))?$/.exec(text) ?? [];
  const row = findCommand(name.toLowerCase());
  if (row === undefined || (argument !== "" && row.argument === undefined)) return undefined;
  return { kind: "command", word: row.word, argument, text };
}

/** `plain`: nobody would begin like this without meaning the operator. */
function mentionIn(whole: string, names: readonly string[]): { rest: string; plain: boolean } | undefined {
  const text = whole.replace(/^\[[^\]]*\]\((https:\/\/matrix\.to\/#\/[^)\s]*)\)/, "$1");
  const calls = names.flatMap(callsOf).sort((one, other) => other.length - one.length);
  for (const call of calls) {
    if (text.slice(0, call.length).toLowerCase() !== call.toLowerCase()) continue;
    const rest = text.slice(call.length);
    // "Claw is slow today" need not be meant for an operator named Claw; "Claw, …" and "@claw:example.org …" are.
    const unmistakable = call.startsWith("@") || call.startsWith("https:");
    // "@claw:" may go on as the user id of somebody else.
    const after = (unmistakable ? /^\s*[:,](?=\s|$)|^\s|^$/ : /^\s*[:,]|^\s|^$/).exec(rest)?.[0];
    if (after === undefined) continue;
    return { rest: rest.slice(after.length).trim(), plain: unmistakable || after.trim() !== "" || rest === "" };
  }
  return undefined;
}

function callsOf(name: string): string[] {
  const localpart = /^@([^:]+):/.exec(name)?.[1];
  if (localpart === undefined) return name === "" ? [] : [name, `@${name}`];
  const links = [name, encodeURIComponent(name)].map((id) => `https://matrix.to/#/${id}`);
  return [name, localpart, `@${localpart}`, ...links];
}
