/**
 * Messages about targets. Each command has one answer, which covers all of its targets and is edited as things change;
 * other news are new messages. Turns {@linkcode News} into sentences and queues the messages in the journal.
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

export interface StatusMessagesOptions {
  readonly chat: Pick<Chat, "room">;
  readonly agents: Agents;
  readonly journal: Pick<Journal, "queueAnswer" | "saveCommand" | "settle">;
  readonly states: TargetStates;
  readonly targets: readonly Target[];
  /** Whether the first line of an answer repeats the command. */
  readonly isEchoed: boolean;
}

/** Turns decisions into messages. Every method must be called in a transaction that saves the states. */
export class StatusMessages {
  readonly #options: StatusMessagesOptions;

  constructor(options: StatusMessagesOptions) {
    this.#options = options;
  }

  /** Returns the sentence for a piece of news. */
  sentence({ alias }: Target, news: News): Required<Text> {
    const { agents, targets } = this.#options;
    return sentence(alias, news, { isOneOfSeveral: targets.length > 1, agents: agents.of(alias) });
  }

  /** Queues a message that shows that the command was seen, unless one has been queued before. */
  acknowledge(command: TargetCommand): void {
    const message = this.#messageOf(command);
    const isOver = [...command.steps.values()].every(({ end }) => end !== undefined);
    if (!message.answered && !isOver) this.#options.states.setMessage(this.#queue(message, command));
  }

  /** Shows in the command's message that a server hasn't answered, until the command ends at the target. */
  showWaiting(command: TargetCommand, target: Target, news: News): void {
    const message = this.#messageOf(command);
    const line: StatusLine = { workload: workloadKey(target), text: this.sentence(target, news), state: "waiting" };
    this.#options.states.setMessage(this.#queue({ ...message, lines: withLine(message.lines, line) }, command));
  }

  /**
   * Makes the command's message follow the target's rollout. If another message in the room already follows it, the
   * sender is added to that one instead.
   */
  follow(command: TargetCommand, target: Target, text: Required<Text>): void {
    const { event } = command;
    const { states } = this.#options;
    const workload = workloadKey(target);
    const other = states.following(workload).find(({ roomId }) => roomId === event.roomId);
    if (other !== undefined) {
      // Somebody who has sent a start is notified when the target is ready, so isToAgent is dropped.
      const { isToAgent: _, ...joined } = other;
      return states.setMessage({ ...joined, users: [...new Set([...joined.users, event.sender])] });
    }
    const message = this.#messageOf(command);
    states.setMessage({ ...message, lines: withLine(message.lines, { workload, text, state: "followed" }) });
  }

  /**
   * If the command has ended at all of its targets, settles its event with the answer. Otherwise records its progress.
   *
   * @param alert is sent to the command's sender in a new message after the answer
   */
  settle(command: TargetCommand, alert: { readonly target: Target; readonly news: News } | undefined): void {
    const { journal, states } = this.#options;
    const { event, steps, word } = command;
    const ends = [...steps.values()].map(({ end }) => end);
    const message = this.#messageOf(command);
    const isOver = !ends.includes(undefined);
    const lines = linesOf(command, message);
    if (isOver) {
      const outcomes = new Set(ends.flatMap((end) => end?.outcome ?? []));
      const answer = answerOf({ ...message, lines }, command.underWay);
      const isSilent = lines.length === 0 && !message.answered;
      journal.settle(event.seq, [...outcomes].join("+"), isSilent ? [] : [answer]);
      if (isSilent) return;
    } else if (word !== "status") journal.saveCommand(event.seq, storedCommand(command));
    const told = alert === undefined ? message : this.#mention(message, [event.sender], alert.target, alert.news);
    if (isOver) states.setMessage(answered({ ...told, lines }));
    else if (told !== message) states.setMessage(told);
  }

  /** Shows the news in all messages that follow a target. */
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
      const changed = message.answered ? this.#queue({ ...message, lines }) : { ...message, lines };
      const isTold = alert === undefined || (alert.kind === "ready-alert" && message.isToAgent === true);
      states.setMessage(isTold ? changed : this.#mention(changed, changed.users, target, alert));
    }
  }

  /** Ends all messages that follow a target, as they are. */
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

  /** Sends new messages, once per key, that don't answer a command. */
  announce(target: Target, said: Extract<Write, { kind: "announce" }>): void {
    const { chat, journal, states } = this.#options;
    const { key, rooms, threadId, news, mention, rings, notWhereFollowed } = said;
    const following = notWhereFollowed ? states.following(workloadKey(target)).map(({ roomId }) => roomId) : [];
    for (const roomId of rooms) {
      const room = chat.room(roomId);
      if (following.includes(roomId) || room?.membership !== "join") continue;
      const mentions = mention !== undefined && room.isJoined(mention) ? [mention] : [];
      const plain = this.sentence(target, news);
      const text = mentions.length === 0 ? plain : words.mentioning(this.#people(roomId, mentions), plain);
      const eventId = `${target.alias} ${key} ${roomId}`;
      const form = rings ? "text" : "notice";
      const about = { sequence: 0, roomId, eventId, ...inThread(threadId) };
      journal.queueAnswer({ kind: "alert", ...about, form, text, reply: false, mentions });
    }
  }

  /**
   * Sends a message about a target that doesn't answer a command, or edits the one that was sent under the same key.
   */
  notice(target: Target, { key, roomId, news, isLast }: Extract<Write, { kind: "notice" }>): void {
    const { chat, agents, states } = this.#options;
    const workload = workloadKey(target);
    const eventId = `${target.alias} ${key}`;
    const places = [roomId, ...states.of(workload).rooms ?? [], ...agents.roomsOf(target.alias)];
    const place = places.find((room) => room !== undefined && chat.room(room)?.membership === "join");
    const message = states.notice(eventId) ?? (place === undefined ? undefined : blank(eventId, place, []));
    // It was not said anywhere, so there is no message to edit.
    if (message === undefined) return;
    const lines = [{ workload, text: this.sentence(target, news), state: isLast ? "final" : "waiting" } as const];
    states.setMessage(this.#queue({ ...message, isNotice: true, lines }));
  }

  #messageOf({ event, typed, word }: TargetCommand): StatusMessage {
    const { states, isEchoed } = this.#options;
    const { roomId, eventId, sender } = event;
    const isToAgent = word === "wake";
    return states.message(roomId, eventId) ?? {
      ...blank(eventId, roomId, [sender]),
      ...inThread(threadOf(event)),
      ...isToAgent ? { isToAgent } : isEchoed ? { echo: typed } : {},
    };
  }

  /** Queues a message's text: the answer itself, or an edit of it. */
  #queue(message: StatusMessage, command?: TargetCommand): StatusMessage {
    // While a command is going on at some targets, its message has no lines yet for those where it has ended.
    const ended = [...command?.steps.values() ?? []].flatMap(({ target, workload = target, end }): StatusLine[] =>
      end?.text === undefined || message.lines.some((line) => line.workload === workload)
        ? []
        : [{ workload, text: end.text, state: "final" }]
    );
    this.#options.journal.queueAnswer(answerOf({ ...message, lines: [...ended, ...message.lines] }));
    return answered(message);
  }

  #people(roomId: string, users: readonly string[]): words.Person[] {
    const room = this.#options.chat.room(roomId);
    return users.map((userId) => ({ userId, name: room?.nameOf(userId) }));
  }

  /** Queues a new message that mentions people. */
  #mention(message: StatusMessage, mentions: readonly string[], target: Target, news: News): StatusMessage {
    const { roomId, eventId, threadId, alerts: sequence } = message;
    const text = words.mentioning(this.#people(roomId, mentions), this.sentence(target, news));
    this.#options.journal.queueAnswer({
      ...{ kind: "alert", sequence, roomId, eventId, form: "text", text, reply: true, mentions },
      ...inThread(threadId),
    });
    return { ...message, alerts: sequence + 1 };
  }
}

/** Returns a message without text. */
function blank(eventId: string, roomId: string, users: readonly string[]): StatusMessage {
  return { eventId, roomId, users, lines: [], answered: false, edits: 0, alerts: 0 };
}

/** Returns a message after its answer, or another edit of it, was queued. */
function answered(message: StatusMessage): StatusMessage {
  return { ...message, answered: true, edits: message.edits + (message.answered ? 1 : 0) };
}

/**
 * Returns the lines of a message whose command has ended. What was reported about a rollout meanwhile is newer than the
 * command's result, so it is kept.
 */
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

/** Makes the answer, or an edit of it once there is one. Omits duplicate lines. */
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

/** What sentences need, whatever the news. */
interface SentenceContext {
  /** Whether there are other targets, so that commands must name this one. */
  readonly isOneOfSeveral: boolean;
  /** User ids of the target's agents. */
  readonly agents: readonly string[];
}

function sentence(alias: string, news: News, { isOneOfSeveral, agents }: SentenceContext): Required<Text> {
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
