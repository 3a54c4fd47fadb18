/**
 * What is said of targets: one answer a command, edited as things change, over several targets; messages of their own
 * where somebody has to know. Makes the sentences from {@linkcode News}, and puts all into the journal.
 *
 * @module
 */

import * as words from "../commands/mod.ts";
import type { Text } from "../commands/mod.ts";
import type { Answer } from "../session/mod.ts";
import type { Agents } from "./agents.ts";
import type { Chat, Journal } from "./ports.ts";
import type { Target } from "../config/mod.ts";
import type { News, Write } from "./decision.ts";
import { inThread, threadOf } from "./message.ts";
import { storedCommand, type TargetCommand, workloadKey } from "./target_command.ts";
import type { StatusLine, StatusMessage, TargetStates } from "./target_state.ts";

/** What status messages use. */
export interface StatusMessagesOptions {
  /** Tells who is in a room. */
  readonly chat: Pick<Chat, "room">;
  /** Where agents are. */
  readonly agents: Agents;
  /** Holds what is to be sent. */
  readonly journal: Pick<Journal, "begin" | "say" | "settle">;
  /** Remembers the messages. */
  readonly states: TargetStates;
  /** All targets. */
  readonly targets: readonly Target[];
  /** The first line of an answer repeats the command. */
  readonly isEchoed: boolean;
}

/** Puts into words and messages what is decided. Every call belongs into a transaction that saves the states. */
export class StatusMessages {
  readonly #options: StatusMessagesOptions;

  constructor(options: StatusMessagesOptions) {
    this.#options = options;
  }

  /** The sentence that says it. */
  sentence({ alias }: Target, news: News): Required<Text> {
    const { agents, targets } = this.#options;
    return sentence(alias, news, { isOneOfSeveral: targets.length > 1, agents: agents.of(alias) });
  }

  /** Has a command's message show that the command was seen, if it doesn't say anything yet. */
  acknowledge(command: TargetCommand): void {
    const message = this.#messageOf(command);
    const isOver = [...command.steps.values()].every(({ end }) => end !== undefined);
    if (!message.answered && !isOver) this.#options.states.setMessage(this.#say(message, command));
  }

  /** Has a command's message say that somebody is being waited for, until the command is over at the target. */
  sayWaiting(command: TargetCommand, target: Target, news: News): void {
    const message = this.#messageOf(command);
    const line: StatusLine = { workload: workloadKey(target), text: this.sentence(target, news), state: "waiting" };
    this.#options.states.setMessage(this.#say({ ...message, lines: withLine(message.lines, line) }, command));
  }

  /**
   * Has a command's message go on with a target's rollout. Where another one in the room does, whoever sent the command
   * joins that one instead.
   */
  follow(command: TargetCommand, target: Target, text: Required<Text>): void {
    const { inbox } = command;
    const { states } = this.#options;
    const workload = workloadKey(target);
    const other = states.following(workload).find(({ roomId }) => roomId === inbox.roomId);
    if (other !== undefined) {
      // Whoever has sent a start is told of its end by us.
      const { isToAgent: _, ...joined } = other;
      return states.setMessage({ ...joined, users: [...new Set([...joined.users, inbox.sender])] });
    }
    const message = this.#messageOf(command);
    states.setMessage({ ...message, lines: withLine(message.lines, { workload, text, state: "followed" }) });
  }

  /**
   * Settles a command's event with its answer when it is over at all of its targets; else writes down how far it is.
   *
   * @param alert what its sender is told in a message of its own, behind the answer
   */
  settle(command: TargetCommand, alert: { readonly target: Target; readonly news: News } | undefined): void {
    const { journal, states } = this.#options;
    const { inbox, steps, word } = command;
    const ends = [...steps.values()].map(({ end }) => end);
    const message = this.#messageOf(command);
    const isOver = !ends.includes(undefined);
    const lines = linesOf(command, message);
    if (isOver) {
      const outcomes = new Set(ends.flatMap((end) => end?.outcome ?? []));
      const answer = answerOf({ ...message, lines }, command.underWay);
      const isSilent = lines.length === 0 && !message.answered;
      journal.settle(inbox.seq, [...outcomes].join("+"), isSilent ? [] : [answer]);
      if (isSilent) return;
    } else if (word !== "status") journal.begin(inbox.seq, storedCommand(command));
    const told = alert === undefined ? message : this.#mention(message, [inbox.sender], alert.target, alert.news);
    if (isOver) states.setMessage(answered({ ...told, lines }));
    else if (told !== message) states.setMessage(told);
  }

  /** Has all messages that follow a target say so. */
  update(target: Target, { news, alert, isLast }: Extract<Write, { kind: "update" }>): void {
    const { states } = this.#options;
    const workload = workloadKey(target);
    const line: StatusLine = {
      workload,
      text: this.sentence(target, news),
      state: isLast ? "final" : "followed",
    };
    for (const message of states.following(workload)) {
      const lines = withLine(message.lines, line);
      const changed = message.answered ? this.#say({ ...message, lines }) : { ...message, lines };
      const isTold = alert === undefined || (alert.kind === "ready-alert" && message.isToAgent === true);
      states.setMessage(isTold ? changed : this.#mention(changed, changed.users, target, alert));
    }
  }

  /** Leaves all messages that follow a target as they are. */
  unfollow(target: Target): void {
    const { states } = this.#options;
    const workload = workloadKey(target);
    for (const message of states.following(workload)) {
      const lines = message.lines.map((line) =>
        line.workload === workload ? { ...line, state: "final" as const } : line
      );
      states.setMessage({ ...message, lines });
    }
  }

  /** Says something in messages that are about no command; once for each key. */
  announce(target: Target, said: Extract<Write, { kind: "announce" }>): void {
    const { chat, journal, states } = this.#options;
    const { key, rooms, threadId, news, mention, rings, notWhereFollowed } = said;
    const following = notWhereFollowed ? states.following(workloadKey(target)).map(({ roomId }) => roomId) : [];
    for (const roomId of rooms) {
      const room = chat.room(roomId);
      if (following.includes(roomId) || room?.membership !== "join") continue;
      const mentions = mention !== undefined && room.isJoined(mention) ? [mention] : [];
      const plain = this.sentence(target, news);
      const text = mentions.length === 0 ? plain : words.mentioning(this.#named(roomId, mentions), plain);
      const eventId = `${target.alias} ${key} ${roomId}`;
      const form = rings ? "text" : "notice";
      const about = { sequence: 0, roomId, eventId, ...inThread(threadId) };
      journal.say({ kind: "alert", ...about, form, text, reply: false, mentions });
    }
  }

  /** Says something of a target's own accord, or edits what was said under the same key. */
  notice(target: Target, { key, roomId, news, isLast }: Extract<Write, { kind: "notice" }>): void {
    const { chat, agents, states } = this.#options;
    const workload = workloadKey(target);
    const eventId = `${target.alias} ${key}`;
    const places = [roomId, ...states.of(workload).rooms ?? [], ...agents.roomsOf(target.alias)];
    const place = places.find((room) => room !== undefined && chat.room(room)?.membership === "join");
    const message = states.notice(eventId) ?? (place === undefined ? undefined : blank(eventId, place, []));
    // It was told nowhere, so there is nothing to add to.
    if (message === undefined) return;
    const lines = [{ workload, text: this.sentence(target, news), state: isLast ? "final" : "waiting" } as const];
    states.setMessage(this.#say({ ...message, isNotice: true, lines }));
  }

  #messageOf({ inbox, typed, word }: TargetCommand): StatusMessage {
    const { states, isEchoed } = this.#options;
    const { roomId, eventId, sender } = inbox;
    const isToAgent = word === "wake";
    return states.message(roomId, eventId) ?? {
      ...blank(eventId, roomId, [sender]),
      ...inThread(threadOf(inbox)),
      ...isToAgent ? { isToAgent } : isEchoed ? { echo: typed } : {},
    };
  }

  /** Queues what a message says: the answer, or an edit of it. */
  #say(message: StatusMessage, command?: TargetCommand): StatusMessage {
    // What is over at other targets of a command that isn't over is not among its lines yet.
    const ended = [...command?.steps.values() ?? []].flatMap(({ target, workload = target, end }): StatusLine[] =>
      end?.text === undefined || message.lines.some((line) => line.workload === workload)
        ? []
        : [{ workload, text: end.text, state: "final" }]
    );
    this.#options.journal.say(answerOf({ ...message, lines: [...ended, ...message.lines] }));
    return answered(message);
  }

  #named(roomId: string, users: readonly string[]): words.Person[] {
    const room = this.#options.chat.room(roomId);
    return users.map((userId) => ({ userId, name: room?.nameOf(userId) }));
  }

  /** Queues a message that mentions people. */
  #mention(message: StatusMessage, mentions: readonly string[], target: Target, news: News): StatusMessage {
    const { roomId, eventId, threadId, alerts: sequence } = message;
    const text = words.mentioning(this.#named(roomId, mentions), this.sentence(target, news));
    this.#options.journal.say({
      ...{ kind: "alert", sequence, roomId, eventId, form: "text", text, reply: true, mentions },
      ...inThread(threadId),
    });
    return { ...message, alerts: sequence + 1 };
  }
}

/** A message that says nothing yet. */
function blank(eventId: string, roomId: string, users: readonly string[]): StatusMessage {
  return { eventId, roomId, users, lines: [], answered: false, edits: 0, alerts: 0 };
}

/** A message whose answer, or a further edit of it, has been queued. */
function answered(message: StatusMessage): StatusMessage {
  return { ...message, answered: true, edits: message.edits + (message.answered ? 1 : 0) };
}

/** What a message says now that its command is over; what has been told of a rollout since is newer than the command's end. */
function linesOf({ steps }: TargetCommand, message: StatusMessage): StatusLine[] {
  return [...steps.values()].flatMap(({ target, workload = target, end }): StatusLine[] => {
    const told = message.lines.find((line) => line.workload === workload && line.state !== "waiting");
    return told !== undefined ? [told] : end?.text === undefined ? [] : [{ workload, text: end.text, state: "final" }];
  });
}

function withLine(lines: readonly StatusLine[], line: StatusLine): StatusLine[] {
  const isThere = lines.some(({ workload }) => workload === line.workload);
  return isThere ? lines.map((each) => each.workload === line.workload ? line : each) : [...lines, line];
}

/** A message as it is sent: at first the answer, then edits of it. Nothing is said twice in one. */
function answerOf(
  { roomId, eventId, threadId, echo, lines, answered, edits, isNotice = false }: StatusMessage,
  underWay: readonly string[] = [],
): Answer {
  const first = echo === undefined ? [] : [words.echo(echo)];
  const said = [
    ...first,
    ...lines.map(({ text }) => text),
    ...underWay.length === 0 ? [] : [words.stillUnderWay(underWay)],
  ];
  const texts = [...new Map(said.map((text) => [text.plain, text])).values()];
  return {
    ...answered ? { kind: "edit", sequence: edits } : { kind: "answer", sequence: 0 },
    ...{ roomId, eventId, form: "notice", text: words.lines(texts), reply: !isNotice, ...inThread(threadId) },
  };
}

/** What is told of a target, whatever the news. */
interface Sentenced {
  /** There are other targets, so that commands have to name it. */
  readonly isOneOfSeveral: boolean;
  /** User ids of the agents in it. */
  readonly agents: readonly string[];
}

function sentence(alias: string, news: News, { isOneOfSeveral, agents }: Sentenced): Required<Text> {
  switch (news.kind) {
    case "switched-on":
      return words.switchedOn(alias, news.replicas, news.next);
    case "switched-off":
      return words.switchedOff(alias, news.next);
    case "already-on":
      return words.alreadyOn(alias, news.scale, news.next);
    case "already-starting":
      return words.alreadyStarting(alias, news.scale, news.next);
    case "already-off":
      return words.alreadyOff(alias, news.next);
    case "no-timer":
      return words.stopsNever(alias);
    case "extended":
      return words.extended(alias, news.stopsInMs);
    case "too-old":
      return words.away(news.typed, news.ageMs);
    case "overtaken":
      return words.overtaken(news.typed, alias, news);
    case "not-authorized":
      return news.refusal === "room-not-allowed" ? words.roomNotAllowed() : words.noLongerSure();
    case "failed":
      return words.failed(news.word, alias, news.why);
    case "failed-alert":
      return words.failedAlert(news.word, alias);
    case "unanswered":
      return words.unanswered(news.word, alias, news.party);
    case "status":
      return words.status(alias, news.scale, news, news.isOnly);
    case "starting":
      return words.starting(alias, news.scale, news.problems);
    case "partly-ready":
      return words.partlyReady(alias, news.scale);
    case "ready":
      return words.ready(alias, news.afterMs, news.next);
    case "ready-alert":
      return words.readyAlert(alias);
    case "not-ready":
      return words.notReady(alias, news.scale, news.afterMs, news.diagnosis);
    case "not-ready-alert":
      return words.notReadyAlert(alias, news.problems);
    case "unreadable":
      return words.unreadable(alias, news.why);
    case "unreadable-alert":
      return words.unreadableAlert(alias);
    case "superseded":
      return words.superseded(alias, news.by === undefined ? undefined : { userId: news.by }, news.afterMs);
    case "undone":
      return words.undone(alias, news, news.afterMs);
    case "scaled-by-others":
      return words.changedByOthers(alias, news);
    case "waking":
      return words.waking(alias);
    case "kept-off":
      return words.keptOff(alias);
    case "falling-asleep":
      return words.fallingAsleep(alias, news);
    case "stays-awake":
      return words.staysAwake(alias);
    case "fell-asleep":
      return words.fellAsleep(alias, news.idleStopMs, agents);
    case "timer-ending":
      return words.nearlyOver(alias, news.leftMs, isOneOfSeveral);
    case "timer-stopped":
      return words.stoppedByItself(alias, news.lateMs);
    case "schedule-started":
      return words.startedBySchedule(alias, news.replicas, news.next, news.lateMs);
    case "schedule-stopped":
      return words.stoppedBySchedule(alias, news.next, news.lateMs);
  }
}
