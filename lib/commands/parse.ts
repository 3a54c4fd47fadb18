/**
 * From the text of a message to a command. Knows nothing of who wrote it, nor whether it is to be obeyed.
 *
 * @module
 */

import { longestMs, parseDuration, shortestMs } from "./duration.ts";
import { type CommandWord, findCommand } from "./command_table.ts";

/** A message that is a command. */
export interface Command {
  /** Tells it from {@linkcode NotACommand}. */
  readonly kind: "command";
  /** The canonical word, whichever alias was used. */
  readonly word: CommandWord;
  /** Alias of a target, or `all`; undefined if none was named. */
  readonly target: string | undefined;
  /** The time behind it, milliseconds; undefined if none was given. */
  readonly durationMs: number | undefined;
  /** What was typed, trimmed and without the mention. */
  readonly text: string;
  /** The operator's name stands first. */
  readonly addressed: boolean;
}

/** A message that is no command. */
export interface NotACommand {
  /** Tells it from {@linkcode Command}. */
  readonly kind: "unknown";
  /** What was typed, trimmed and without the mention. */
  readonly text: string;
  /** The operator's name stands first, so that an answer is expected. */
  readonly addressed: boolean;
  /** It would be a command but for this. */
  readonly misuse?: Misuse;
}

/** What is wrong with a message that begins like a command. */
export interface Misuse {
  /** A target that is none of ours; a duration that is none, or too short or too long, or missing. */
  readonly kind: "target" | "no-duration" | "not-a-duration" | "too-short" | "too-long";
  /** What was typed. */
  readonly given: string;
}

/**
 * What phones put between letters without showing it: format characters (zero-width spaces, directional marks, soft
 * hyphens), variation selectors and fillers.
 */
const invisible = /[\p{Cf}\p{Default_Ignorable_Code_Point}]/gu;

/**
 * Reads a message: the whole of it, in any case, is a command or it is not. A mention of the operator before the
 * command is taken off: its user id, the localpart of that or another name, as plain text or as a matrix.to link.
 * Invisible characters count nowhere.
 *
 * @param text body of the message
 * @param names what the operator is called: user ids and display names
 * @param aliases of the targets
 */
export function parse(text: string, names: readonly string[], aliases: readonly string[]): Command | NotACommand {
  const whole = text.replace(invisible, "").trim();
  const unmentioned = commandIn(whole, aliases);
  if (unmentioned?.kind === "command") return unmentioned;

  const mention = mentionIn(whole, names.map((name) => name.replace(invisible, "").trim()));
  if (mention === undefined) return { kind: "unknown", text: whole, addressed: false, ...misuseIn(unmentioned) };
  const mentioned = commandIn(mention.rest, aliases);
  return mentioned?.kind === "command" ? { ...mentioned, addressed: true } : {
    kind: "unknown",
    text: mention.rest === "" ? whole : mention.rest,
    addressed: mention.plain,
    ...misuseIn(mentioned),
  };
}

/** Whether a message begins with one of somebody's names, so that it is said to them. */
export function isAddressedTo(text: string, names: readonly string[]): boolean {
  return mentionIn(text.replace(invisible, "").trim(), names)?.plain === true;
}

function misuseIn(misuse: Misuse | undefined): Pick<NotACommand, "misuse"> {
  return misuse === undefined ? {} : { misuse };
}

function commandIn(text: string, aliases: readonly string[]): Command | Misuse | undefined {
  const [name = "", ...words] = text.split(/\s+/);
  const row = findCommand(name.toLowerCase());
  if (row === undefined) return undefined;
  const known = [...aliases, "all"].find((alias) => alias === words[0]?.toLowerCase());
  const target = row.takes.includes("target") && known !== undefined ? known : undefined;
  if (target !== undefined) words.shift();
  const [first = ""] = words;
  const given = words.join(" ");
  const isTimed = row.takes.includes("duration");
  if (isTimed && (/^\d/.test(first) || (words.length === 0 && row.word === "extend"))) {
    if (words.length === 0) return { kind: "no-duration", given };
    const durationMs = parseDuration(words.join(""));
    if (durationMs === undefined) return { kind: "not-a-duration", given };
    if (durationMs < shortestMs) return { kind: "too-short", given };
    if (durationMs > longestMs) return { kind: "too-long", given };
    return { kind: "command", word: row.word, target, durationMs, text, addressed: false };
  }
  if (words.length === 0) {
    return { kind: "command", word: row.word, target, durationMs: undefined, text, addressed: false };
  }
  // With one target nobody speaks of others: "start now" is no command then.
  const isAlias = aliases.length > 1 && target === undefined && row.takes.includes("target");
  const isWhole = words.length === 1 || (isTimed && parseDuration(words.slice(1).join("")) !== undefined);
  return isAlias && isWhole ? { kind: "target", given: first } : undefined;
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
