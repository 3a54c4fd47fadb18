/**
 * From values to what a person reads: every sentence that the operator says in a room is made here. Knows nothing of
 * when it is said, nor to whom.
 *
 * @module
 */

import type { Counts, Problem } from "../scaler/mod.ts";
import { duration, longestMs, shortestMs, timeLeft } from "./duration.ts";
import type { Misuse } from "./parse.ts";
import { reasons, stopping } from "./progress.ts";
import { type CommandRow, commandTable, type CommandWord } from "./table.ts";
import { bold, code, joined, lines, quoted, type Text, text } from "./text.ts";

/** Why something could not be done. */
export type Why =
  | { readonly kind: "not-permitted"; readonly verb: string; readonly resource: string }
  | { readonly kind: "not-found"; readonly target: string }
  | { readonly kind: "rejected"; readonly reason: string }
  /** A fault of ours. */
  | { readonly kind: "internal" }
  /** `who` did not answer; `perhapsDone`: a change was sent whose outcome nobody told. */
  | { readonly kind: "unreachable"; readonly who: string; readonly triedMs: number; readonly perhapsDone: boolean };

/** How a target is, in one word. */
export function stateOf(counts: Counts): "running" | "starting" | "stopping" | "off" {
  const { desired, current, ready, settled } = counts;
  if (desired === 0) return settled && current === 0 ? "off" : "stopping";
  return settled && ready >= desired ? "running" : "starting";
}

/** The first sign that a command was seen. */
export function echo(typed: string): Text {
  return text`🦞 ${typed}`;
}

/** A start that changed the count; `stopsInMs`: it is only for so long. */
export function switchedOn(target: string, replicas: number, stopsInMs: number | undefined): Text {
  return text`${bold(target)} is now on (replicas: ${replicas}), starting…${stopping(stopsInMs)}`;
}

/** A stop that changed the count. */
export function switchedOff(target: string): Text {
  return text`${bold(target)} is now off (replicas: 0)`;
}

/** A start of what is on; `stopsInMs`: from now on it is only for so long. */
export function alreadyOn(
  target: string,
  { ready, desired }: Pick<Counts, "ready" | "desired">,
  stopsInMs: number | undefined,
): Text {
  const end = stopsInMs === undefined ? "" : `.${stopping(stopsInMs)}`;
  return text`${bold(target)} is already on (${ready}/${desired} ready)${end}`;
}

/** A stop of what is off. */
export function alreadyOff(target: string): Text {
  return text`${bold(target)} is already off`;
}

/** What is known of a target besides its counts. */
export interface Circumstances {
  /** For how long it has been ready, milliseconds. */
  readonly readyForMs: number | undefined;
  /** After which time it stops by itself, milliseconds. */
  readonly stopsInMs: number | undefined;
  /** What is in its way. */
  readonly problems: readonly Problem[];
}

/** How a target is: one alone in a sentence, one of several in a row of a table. */
export function status(target: string, counts: Counts, around: Circumstances, isAlone: boolean): Text {
  const { desired, ready, available } = counts;
  const { readyForMs, stopsInMs, problems } = around;
  const since = readyForMs === undefined ? "" : `, for ${duration(readyForMs)}`;
  const until = stopsInMs === undefined ? "" : `; stops by itself in ${timeLeft(stopsInMs)}`;
  const told = text`${ready}/${desired} ready, ${available} available${since}${until}`;
  const state = stateOf(counts);
  const line = isAlone ? text`${bold(target)} is ${state}: ${told}` : text`${bold(target)} · ${state} · ${told}`;
  return problems.length === 0 ? line : text`${line}; ${reasons({ problems })}`;
}

/** What can be sent. */
export function help(targets: readonly string[]): Text {
  const isOne = targets.length === 1;
  const rows = commandTable.map(({ word, aliases, takes, meaning }: CommandRow) => {
    const behind = takes.filter((each) => each !== "target" || !isOne).map((each) => ` <${each}>`).join("");
    const names = [word, ...aliases].map((name) => code(name + behind));
    return text`${joined(names, " or ")}: ${meaning}`;
  });
  const which = isOne ? [] : [
    text`A target is one of these, or ${code("all")}. Without one I take ${bold(targets[0] ?? "")}; ${
      code("status")
    } tells of all.`,
  ];
  return lines([text`I switch ${joined(targets.map(bold), ", ")} on and off. Send me`, ...rows, ...which]);
}

/** A command that makes no sense as it stands. */
export function misused({ kind, given }: Misuse, targets: readonly string[]): Text {
  if (kind === "duration") {
    const what = given === "" ? text`I need to know for how long` : text`I don't understand ${quoted(given)} as a time`;
    const bounds = `from ${duration(shortestMs)} to ${duration(longestMs)}`;
    return text`${what}: send something like ${code("90m")}, ${code("2h")} or ${code("1h30m")}, ${bounds}.`;
  }
  return text`I know no target ${quoted(given)}. Mine are ${joined(targets.map(bold), ", ")}; ${
    code("all")
  } is all of them.`;
}

/** A message that is no command. */
export function unknownCommand(typed: string): Text {
  return text`Unknown command: ${quoted(typed)} (send ${code("help")} to see what I understand)`;
}

/** A command sent as a reply to some message. */
export function replyIsNoCommand(typed: string): Text {
  return text`I did nothing, because that was a reply. Send ${code(typed)} as a message of its own.`;
}

/** A command that has become too old. */
export function away(typed: string, ageMs: number): Text {
  return text`I was away when you sent ${code(typed)}, ${duration(ageMs)} ago. Send it again if you still want it.`;
}

/** A command that was tried and not done. */
export function failed(word: CommandWord, target: string, why: Why): Text {
  return text`Cannot ${doing(word)} ${bold(target)}: ${reasonOf(why, word)}`;
}

/** Says in one line that a command failed, to whoever waits for it. */
export function failedAlert(word: CommandWord, target: string): Text {
  return text`Couldn't ${doing(word)} ${bold(target)}`;
}

/** A command that is still being tried: `who` isn't answering. */
export function unanswered(word: CommandWord, target: string, who: string): Text {
  return text`The ${who} isn't answering. Still trying to ${doing(word)} ${bold(target)}…`;
}

/** A start whose target can't be looked at. */
export function unreadable(target: string, why: Why): Text {
  return text`Can't see how ${bold(target)} is doing: ${reasonOf(why, "status")} Still trying.`;
}

/** The same in one line, to whoever waits for it. */
export function unreadableAlert(target: string): Text {
  return text`Can't see how ${bold(target)} is doing`;
}

function doing(word: CommandWord): string {
  return word === "start" || word === "stop" || word === "extend" ? word : "look at";
}

function reasonOf(why: Why, word: CommandWord): Text {
  switch (why.kind) {
    case "not-permitted":
      return text`I am not permitted to ${code(why.verb)} ${code(why.resource)}.`;
    case "not-found":
      return text`there is no ${why.target}.`;
    case "rejected":
      return text`the Kubernetes API refused it (${quoted(why.reason)}).`;
    case "internal":
      return text`something went wrong on my side. The log has the details.`;
    case "unreachable": {
      const tried = text`the ${why.who} did not answer properly for ${duration(why.triedMs)}.`;
      if (word === "status" || word === "help") return tried;
      const standing = why.perhapsDone
        ? text`My last try may have got through all the same: ask for ${code("status")}.`
        : text`Nothing was changed.`;
      return text`${tried} ${standing} I will not try again by myself: send ${code(word)} again if you still want it.`;
    }
  }
}

/** A command that was cut short, and whose target somebody else has scaled before it could be taken up again. */
export function overtaken(typed: string, target: string, was: { before: number; now: number }): Text {
  const { before, now } = was;
  const counts = text`replicas: ${before} when you sent ${code(typed)}, ${now} now`;
  return text`Somebody else has changed ${bold(target)} meanwhile (${counts}). I leave it like that.`;
}

/** A command that was cut short, and whose target the configuration no longer names. */
export function targetGone(typed: string, target: string): Text {
  return text`I was interrupted at ${code(typed)}, and ${
    bold(target)
  } is no longer among my targets. I leave it as it is.`;
}

/** A command that was trusted when it came, and is not any more when it is its turn. */
export function noLongerSure(): Text {
  return text`I did nothing: when its turn came, I could no longer be sure that this message is yours.`;
}

/** Commands that were sent before a status and are still being carried out. */
export function stillUnderWay(typed: readonly string[]): Text {
  return text`Still under way: ${joined(typed.map((each) => code(each)), ", ")}.`;
}

/** A room of whose messages some could not be fetched. */
export function historyCutOff(): Text {
  return text`So much was written here while I was away that I haven't read all of it. If you sent me a command and got no answer, send it again.`;
}

/** A command in a room that the configuration leaves out. */
export function roomNotAllowed(): Text {
  return text`I take no commands in this room: it is not among the rooms that I was set up for.`;
}

const withheldReasons: ReadonlyMap<string, string> = new Map([
  ["m.blacklisted", "your app has blocked my device"],
  ["m.unverified", "your app sends to verified devices only, and mine is not verified"],
  ["m.unauthorised", "your app says that I may not read it"],
  ["m.no_olm", "your app could not set up a secure channel to my device"],
]);

/**
 * A message that cannot be decrypted.
 *
 * @param withheldCode why the sender's app kept the key from us, if it said so (Matrix spec v1.16, client-server API,
 * 10.12.4.5, `m.room_key.withheld`)
 */
export function undecryptable(withheldCode: string | undefined): Text {
  const reason = withheldCode === undefined
    ? "I have no key for it (yet)"
    : withheldReasons.get(withheldCode) ?? "your app kept the key from me";
  return text`I cannot read your message: ${reason}.`;
}
