/**
 * Parses the text of a message into a command. Who sent it, and whether they may, is decided elsewhere.
 *
 * @module
 */

import { longestMs, parseDuration, shortestMs } from "./duration.ts";
import { type CommandWord, findCommand } from "./command_table.ts";

/** A message that is a command. */
export interface Command {
  /** Discriminates it from {@linkcode NotACommand}. */
  readonly kind: "command";
  /** Canonical word, even if an alias was typed. */
  readonly word: CommandWord;
  /** Alias of a target, or `all`; undefined if none was named. */
  readonly target: string | undefined;
  /** Duration, in milliseconds; undefined if none was given. */
  readonly durationMs: number | undefined;
  /** The message, trimmed and without the mention. */
  readonly text: string;
  /** Whether the message begins with the operator's name. */
  readonly addressed: boolean;
}

/** A message that isn't a command. */
export interface NotACommand {
  /** Discriminates it from {@linkcode Command}. */
  readonly kind: "unknown";
  /** The message, trimmed and without the mention. */
  readonly text: string;
  /** Whether the message begins with the operator's name, so that an answer is expected. */
  readonly addressed: boolean;
  /** Set if the message would be a command otherwise. */
  readonly misuse?: Misuse;
}

/** Why a message that begins like a command isn't one. */
export interface Misuse {
  /** An unknown target, or a duration that is missing, malformed, too short or too long. */
  readonly kind: "target" | "no-duration" | "not-a-duration" | "too-short" | "too-long";
  /** The argument as it was typed. */
  readonly given: string;
}

/**
 * Invisible characters that phones insert: format characters (zero-width spaces, directional marks, soft hyphens),
 * variation selectors and fillers.
 */
const invisible = /[\p{Cf}\p{Default_Ignorable_Code_Point}]/gu;

/**
 * Parses a message. The whole message, ignoring case, must be a command. A leading mention of the operator is removed:
 * its user id, the localpart of that or another name, as plain text or as a matrix.to link. Invisible characters are
 * ignored.
 *
 * @param text body of the message
 * @param names names of the operator: user ids and display names
 * @param aliases aliases of the targets
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

/** Whether a message begins with one of these names, and so is addressed to their owner. */
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
  // With a single target nobody names others: "start now" isn't a command then.
  const isAlias = aliases.length > 1 && target === undefined && row.takes.includes("target");
  const isWhole = words.length === 1 || (isTimed && parseDuration(words.slice(1).join("")) !== undefined);
  return isAlias && isWhole ? { kind: "target", given: first } : undefined;
}

/** Removes a leading mention. `plain`: the mention can only mean the operator. */
function mentionIn(whole: string, names: readonly string[]): { rest: string; plain: boolean } | undefined {
  const text = whole.replace(/^\[[^\]]*\]\((https:\/\/matrix\.to\/#\/[^)\s]*)\)/, "$1");
  const calls = names.flatMap(callsOf).sort((one, other) => other.length - one.length);
  for (const call of calls) {
    if (text.slice(0, call.length).toLowerCase() !== call.toLowerCase()) continue;
    const rest = text.slice(call.length);
    // "Claw is slow today" need not be addressed to an operator named Claw; "Claw, …" and "@claw:example.org …" are.
    const unmistakable = call.startsWith("@") || call.startsWith("https:");
    // "@claw:" may be the beginning of somebody else's user id.
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
