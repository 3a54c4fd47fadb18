/**
 * Turns results into the sentences that the operator sends to rooms. Every such sentence is made in this room. When and
 * to whom it is sent is decided elsewhere.
 *
 * @module
 */

import type { Counts, Problem } from "../scaler/mod.ts";
import { duration, longestMs, shortestMs } from "./duration.ts";
import type { Misuse } from "./parse.ts";
import { reasons } from "./progress.ts";
import { type CommandRow, commandTable, type CommandWord } from "./command_table.ts";
import { bold, code, enumerated, joined, lines, quoted, replicas, type Text, text } from "./rich_text.ts";
import { called, type Upcoming, upcoming, upcomingSentence } from "./upcoming.ts";

/** Why a command failed. */
export type Why =
  | { readonly kind: "not-permitted"; readonly verb: string; readonly resource: string }
  | { readonly kind: "not-found"; readonly target: string }
  | { readonly kind: "rejected"; readonly reason: string }
  /** A bug of ours. */
  | { readonly kind: "internal" }
  /** `who` did not answer. `perhapsDone`: a change was sent and its outcome is unknown. */
  | { readonly kind: "unreachable"; readonly who: string; readonly triedMs: number; readonly perhapsDone: boolean };

/** Returns a target's state in one word. */
export function stateOf(counts: Counts): "running" | "starting" | "stopping" | "off" {
  const { desired, current, ready, settled } = counts;
  if (desired === 0) return settled && current === 0 ? "off" : "stopping";
  return settled && ready >= desired ? "running" : "starting";
}

/** First line of the message that answers a command. It shows that the command was seen. */
export function echo(typed: string): Text {
  return text`🦞 ${typed}`;
}

/** Puts the echo of a command before its answer. */
export function answering(typed: string, answer: Text): Text {
  return lines([echo(typed), answer]);
}

/** A start has changed the replica count. */
export function switchedOn(target: string, count: number, next: Upcoming | undefined): Text {
  return text`${bold(target)} is on (${replicas(count)}), starting…${upcomingSentence(next)}`;
}

/** A stop has changed the replica count. */
export function switchedOff(target: string, next: Upcoming | undefined): Text {
  return text`${bold(target)} is off${upcoming(next)}`;
}

/** A start found the target on. */
export function alreadyOn(
  target: string,
  { ready, desired }: Pick<Counts, "ready" | "desired">,
  next: Upcoming | undefined,
): Text {
  const end = next === undefined ? "" : `.${upcomingSentence(next)}`;
  return text`${bold(target)} is already running (${ready}/${desired} ready)${end}`;
}

/** A stop found the target off. */
export function alreadyOff(target: string, next: Upcoming | undefined): Text {
  return text`${bold(target)} is already off${upcoming(next)}`;
}

/** What a status shows besides the counts. */
export interface Circumstances {
  /** How long the target has been ready, in milliseconds. */
  readonly readyForMs: number | undefined;
  /** What happens to the target next without a command. */
  readonly next: Upcoming | undefined;
  /** Why it isn't ready. */
  readonly problems: readonly Problem[];
}

/** State of a target: a sentence if it is the only one, else a row of a list. */
export function status(target: string, counts: Counts, around: Circumstances, isAlone: boolean): Text {
  const { desired, current, ready, available } = counts;
  const { readyForMs, next, problems } = around;
  const state = stateOf(counts);
  const details: string[] = [];
  if (state === "stopping") details.push(`${replicas(current)} left`);
  else if (state !== "off") details.push(`${ready}/${desired} ready`);
  if (state === "running" && available < ready) details.push(`${available} available`);
  if (state === "running" && readyForMs !== undefined) details.push(`up ${duration(readyForMs)}`);
  const told = details.join(", ");
  const until = upcoming(next);
  const line = isAlone
    ? text`${bold(target)} is ${state}${told === "" ? "" : `: ${told}`}${until}`
    : text`${bold(target)} · ${state}${told === "" ? "" : ` · ${told}`}${until}`;
  return problems.length === 0 ? line : text`${line}; ${reasons({ problems })}`;
}

/** An up-time of a target. */
export interface Scheduled {
  /** Alias of the target. */
  readonly alias: string;
  /** The up-time as configured, such as `Mon-Fri 08:00-18:00 Europe/Berlin`. */
  readonly text: string;
}

/** An agent that runs in a target. */
export interface RunningAgent {
  /** Alias of the target. */
  readonly alias: string;
  /** User id of the agent. */
  readonly userId: string;
}

/** What happens without a command. */
export interface Automation {
  /** Up-times of all targets. */
  readonly schedule: readonly Scheduled[];
  /** Agents. Messages to them wake their targets. */
  readonly agents: readonly RunningAgent[];
  /** Time after the last message after which a target with an agent is stopped, in milliseconds. */
  readonly idleStopMs: number | undefined;
}

/** Lists the commands, and what happens without a command. */
export function help(targets: readonly string[], { schedule, agents, idleStopMs }: Automation): Text {
  const [first = ""] = targets;
  const isOne = targets.length === 1;
  const rows = commandTable.map(({ word, aliases, example, meaning }: CommandRow) => {
    const names = [word, ...aliases].map((name) => code(example === undefined ? name : `${name} ${example}`));
    const more = word === "start" ? text` (${code("start 2h")}: for two hours)` : text``;
    return text`${joined(names, " or ")}: ${meaning}${more}`;
  });
  const which = isOne ? [] : [
    text`Without a name, commands apply to ${bold(first)}, but ${code("status")} shows all. Add a name or ${
      code("all")
    } to choose others: ${code(`start ${targets[1]} 2h`)}, ${code("stop all")}.`,
  ];
  const schedules = targets.flatMap((target) => {
    const times = schedule.filter(({ alias }) => alias === target).map(({ text: words }) => text`${words}`);
    return times.length === 0 ? [] : [text`${bold(target)} is scheduled to be on: ${joined(times, ", ")}.`];
  });
  const wins = schedules.length === 0 ? [] : [
    text`Commands win: a start holds until the schedule's next stop, and a stop until its next start.`,
  ];
  const sleepers = targets.flatMap((target) => {
    const own = agents.filter(({ alias }) => alias === target).map(({ userId }) => userId);
    if (own.length === 0) return [];
    const sleeps = idleStopMs === undefined ? "" : `, and sleeps after ${duration(idleStopMs)} without a message`;
    return [
      text`${bold(target)} wakes when you write to ${called(own)}${sleeps}. After a ${code("stop")} it stays off.`,
    ];
  });
  const mention = sleepers.length === 0 ? [] : [
    text`Where an agent is in the room, mention me before the command.`,
  ];
  const head = text`I turn ${enumerated(targets.map(bold), "and")} on and off. Commands:`;
  return lines([head, ...rows, ...which, ...schedules, ...wins, ...sleepers, ...mention]);
}

/** A command can't be carried out as it was typed. */
export function misused({ kind, given }: Misuse, targets: readonly string[]): Text {
  switch (kind) {
    case "target":
      return text`There's no target ${code(given)}. Use ${enumerated([...targets.map(code), code("all")], "or")}.`;
    case "no-duration":
      return text`For how long? For example, ${code("extend 1h")}.`;
    case "not-a-duration":
      return text`${code(given)} isn't a duration. Try ${code("90m")}, ${code("1h30m")} or ${code("2d")}.`;
    case "too-short":
      return text`${code(given)} is too short; the least is ${shortestWritten}.`;
    case "too-long":
      return text`${code(given)} is too long; the most is ${longestWritten}.`;
  }
}

/** The limits in the notation of commands. */
const shortestWritten = `${shortestMs / 60_000}m`;
const longestWritten = `${longestMs / 86_400_000}d`;

/** A message to the operator isn't a command. */
export function unknownCommand(typed: string): Text {
  return text`Unknown command: ${quoted(typed)}. Send ${code("help")} for a list of commands.`;
}

/** A command was sent as a reply to somebody else's message. */
export function replyIsNoCommand(typed: string): Text {
  return text`I ignored that because it was a reply. Send ${code(typed)} as a new message.`;
}

/** A command is too old. */
export function away(typed: string, ageMs: number): Text {
  return text`I was away when you sent ${code(typed)}, ${duration(ageMs)} ago. Send it again if you still want it.`;
}

/** A command has failed. */
export function failed(word: CommandWord, target: string, why: Why): Text {
  if (why.kind === "unreachable" && why.perhapsDone) {
    const tried = text`the ${why.who} didn't answer within ${duration(why.triedMs)}`;
    const done = word === "start" ? "started" : word === "stop" ? "stopped" : "changed";
    return text`Can't tell whether ${bold(target)} was ${done}: ${tried}. Send ${code("status")} to check.`;
  }
  return text`Can't ${doing(word)} ${bold(target)}: ${reasonOf(why, word)}`;
}

/** One-line notification to the sender that a command has failed. */
export function failedAlert(word: CommandWord, target: string): Text {
  return text`Can't ${doing(word)} ${bold(target)}`;
}

/** A command is still being tried, because `who` isn't answering. */
export function unanswered(word: CommandWord, target: string, who: string): Text {
  return text`The ${who} isn't answering. Still trying to ${doing(word)} ${bold(target)}…`;
}

/** A target that is starting can't be read. */
export function unreadable(target: string, why: Why): Text {
  return text`Can't tell whether ${bold(target)} is ready: ${reasonOf(why, "status")} Still trying.`;
}

/** One-line notification that a target can't be read. */
export function unreadableAlert(target: string): Text {
  return text`Can't tell whether ${bold(target)} is ready`;
}

function doing(word: CommandWord): string {
  return word === "start" || word === "stop" || word === "extend" ? word : "check";
}

function reasonOf(why: Why, word: CommandWord): Text {
  switch (why.kind) {
    case "not-permitted": {
      // Such as `deployments.apps/scale "clawdbot" in namespace "clawdbot"`.
      const [resource = "", ...where] = why.resource.split(" ");
      const named = [code(resource.replace(".apps", "")), ...where.length === 0 ? [] : [text`${where.join(" ")}`]];
      return text`I'm not allowed to ${why.verb} ${joined(named, " ")}. My Role lacks that permission.`;
    }
    case "not-found":
      return text`there's no ${why.target}.`;
    case "rejected":
      return text`the Kubernetes API rejected the request (${code(why.reason)}).`;
    case "internal":
      return text`internal error. My log has the details.`;
    case "unreachable": {
      const tried = text`the ${why.who} didn't answer within ${duration(why.triedMs)}.`;
      if (word === "status" || word === "help") return tried;
      return text`${tried} Nothing was changed. Send ${code(word)} again if you still want it.`;
    }
  }
}

/** A command was interrupted, and somebody else scaled its target before it was resumed. */
export function overtaken(typed: string, target: string, was: { before: number; now: number }): Text {
  const counts = was.before === was.now ? "and back again" : `from ${was.before} to ${replicas(was.now)}`;
  return text`Somebody else scaled ${bold(target)} ${counts} after you sent ${code(typed)}. I've left it unchanged.`;
}

/** A command was interrupted, and the configuration no longer names its target. */
export function targetGone(typed: string, target: string): Text {
  return text`I was restarted while handling ${code(typed)}, and ${
    bold(target)
  } is no longer one of my targets. I've left it unchanged.`;
}

/** A command was trusted when it arrived and no longer is when its turn comes. */
export function noLongerSure(): Text {
  return text`I ignored that: when its turn came, I could no longer verify that you sent it. If you did, send it again.`;
}

/** Commands that were sent before a status and are still being carried out. */
export function stillUnderWay(typed: readonly string[]): Text {
  return text`Still in progress: ${joined(typed.map((each) => code(each)), ", ")}`;
}

/** Part of the room's history could not be fetched. */
export function historyCutOff(): Text {
  return text`I couldn't read every message that was sent here while I was away. If I missed a command that you still want, send it again.`;
}

/** A command was sent in a room that isn't allowed. */
export function roomNotAllowed(): Text {
  return text`I don't take commands in this room: it isn't in ${code("ALLOWED_ROOMS")}.`;
}

const SEND_AGAIN = "Send the message again; if that fails, start a new chat with me";

const withheldReasons: ReadonlyMap<string, string> = new Map([
  ["m.blacklisted", "your app has blocked my device. Unblock it, then send the message again"],
  [
    "m.unverified",
    "your app sends to verified devices only, and mine isn't verified. Verify my device or turn that setting off for this room, then send the message again",
  ],
  ["m.unauthorised", `your app says that my device isn't allowed to read it. ${SEND_AGAIN}`],
  ["m.no_olm", `your app couldn't set up an encrypted session with my device. ${SEND_AGAIN}`],
]);

/**
 * A message can't be decrypted.
 *
 * @param withheldCode why the sender's client withheld the key, if it said so (Matrix spec v1.16, client-server API,
 * 10.12.4.5, `m.room_key.withheld`)
 */
export function undecryptable(withheldCode: string | undefined): Text {
  const reason = withheldCode === undefined
    ? `your app hasn't sent me the key for it. ${SEND_AGAIN}`
    : withheldReasons.get(withheldCode) ?? `your app withheld the key for it. ${SEND_AGAIN}`;
  return text`I can't read your message: ${reason}.`;
}
