/**
 * What lasts of the targets between commands and across restarts: one sealed document, in which targets are known by
 * their workloads, since names are the configuration's to change.
 *
 * @module
 */

import type { Text } from "../commands/mod.ts";
import type { Target } from "../config/mod.ts";
import { type Intent, workloadKey } from "./target_command.ts";

/** What lasts of a target. */
export interface TargetState {
  /** Replicas wanted, as we have set, read or told them last: another count is somebody else's doing. */
  readonly expectedReplicas?: number | undefined;
  /** Replicas before the last stop by chat or timer, never 0. */
  readonly replicasBeforeStop?: number | undefined;
  /** Since when it is ready, milliseconds since the epoch. */
  readonly readySinceMs?: number | undefined;
  /** Who started it last by chat. */
  readonly startedBy?: string | undefined;
  /** Rooms where it was last commanded, the latest first. */
  readonly rooms?: readonly string[] | undefined;
  /** When it stops automatically. */
  readonly timer?: StopTimer | undefined;
  /** How far its schedule has been followed. */
  readonly schedule?: FollowedSchedule | undefined;
  /** The latest stop by chat. */
  readonly stopped?: ChatStop | undefined;
  /** Since when it has been quiet, while it is on. */
  readonly idle?: Idle | undefined;
  /** The latest change of its count by chat, for as long as there may be something to tell of it. */
  readonly rollout?: Rollout | undefined;
}

/** A stop by chat. */
export interface ChatStop {
  /** Place of its event in the inbox: messages before it wake nothing, however late their keys come. */
  readonly seq: number;
  /** It holds: messages to the target's agent don't wake it. */
  readonly isHeld: boolean;
  /** Somebody who has written to the agent since was told so. */
  readonly isTold?: boolean;
}

/** What idleness is counted from. */
export interface Idle {
  /** When a user last wrote in its agents' rooms, or it was turned on or found on, milliseconds since the epoch. */
  readonly userAtMs: number;
  /** When a user last wrote there, milliseconds since the epoch. */
  readonly messageAtMs?: number;
  /** In which room that was; undefined: in none. */
  readonly roomId?: string;
  /** When an agent last wrote or typed, milliseconds since the epoch. */
  readonly agentAtMs?: number;
  /** The room was told that the target is about to be stopped. */
  readonly warning?: IdleWarning;
}

/** The word of warning before a target is stopped because nobody writes. Times are milliseconds since the epoch. */
export interface IdleWarning {
  /** When it was told; tells it from others. */
  readonly saidAtMs: number;
  /** When it is stopped, unless somebody writes. */
  readonly stopsAtMs: number;
  /** Since when it was quiet: whoever writes later has the target stay on. */
  readonly quietSinceMs: number;
  /** Room in which it was told; undefined: where the target was last commanded, or its agent is. */
  readonly roomId?: string;
  /** The room was told that the target can't be stopped. */
  readonly failureTold?: boolean;
  /** The stop that has been begun. */
  readonly intent?: Intent;
}

/** When a target stops automatically. */
export interface StopTimer {
  /** Milliseconds since the epoch. */
  readonly dueAtMs: number;
  /** Room in which it was set. */
  readonly roomId: string;
  /** Thread in which it was set, by its root's event id. */
  readonly threadId?: string;
  /** Who set it. */
  readonly user: string;
  /** Nobody has asked for it: it is AUTO_STOP's, which doesn't count while the schedule has the target up. */
  readonly isDefault?: true;
  /** The room was told that the time is nearly up. */
  readonly warned: boolean;
  /** The room was told that the target can't be stopped. */
  readonly failureTold?: boolean;
  /** The stop that has been begun. */
  readonly intent?: Intent;
}

/** How far a schedule has been followed. */
export interface FollowedSchedule {
  /** As it was written: nothing of another one has been missed. */
  readonly text: string;
  /** The latest edge that has been dealt with, milliseconds since the epoch. */
  readonly edgeAtMs: number;
  /** Of the edge after that: the change that has been begun. */
  readonly intent?: Intent;
  /** Of the edge after that: rooms were told that it can't be followed. */
  readonly failureTold?: boolean;
}

/** A change of a count whose progress is told. */
export interface Rollout {
  /** Replicas before. */
  readonly before: number;
  /** Replicas wanted. */
  readonly after: number;
  /** When it was made, milliseconds since the epoch. */
  readonly atMs: number;
  /** When the message was sent that has woken the target, milliseconds since the epoch; undefined: no message has. */
  readonly wokenAtMs?: number;
  /** What was told last. */
  readonly told: "nothing" | "partly" | "failing" | "ready";
  /** Problems that were told as certain, each once, by {@linkcode problemKey}. */
  readonly problems?: readonly string[];
  /** Problems that were told as provisional, by their kinds; empty: none is shown any more. */
  readonly provisional?: string;
  /** It was told that it isn't ready in time. */
  readonly late: boolean;
  /** It was told that the target can't be looked at. */
  readonly unreadableTold?: boolean;
}

/** The one message that answers a command, and is edited as things change. */
export interface StatusMessage {
  /** Event of the command, or what tells the message from others. */
  readonly eventId: string;
  /** Its room. */
  readonly roomId: string;
  /** Thread that it is in. */
  readonly threadId?: string;
  /** Who is mentioned when it ends badly or late. */
  readonly users: readonly string[];
  /** It answers no event. */
  readonly isNotice?: boolean;
  /** It answers a message to an agent, which tells by itself that it is ready. */
  readonly isToAgent?: boolean;
  /** What was typed, where its first line repeats that. */
  readonly echo?: string;
  /** What it says, by workload; nothing yet while it only shows that the command was seen. */
  readonly lines: readonly StatusLine[];
  /** The answer itself is among what is to be sent; what changes from now on is sent as an edit of it. */
  readonly answered: boolean;
  /** Edits so far. */
  readonly edits: number;
  /** Messages that mention people so far. */
  readonly alerts: number;
}

/** What a status message says of one target. */
export interface StatusLine {
  /** The target's {@linkcode workloadKey}. */
  readonly workload: string;
  /** What it says. */
  readonly text: Required<Text>;
  /** `waiting`: until the command is carried out; `followed`: it changes with the rollout; `final`: it stays. */
  readonly state: "waiting" | "followed" | "final";
}

/** All that lasts of the targets. */
export interface TargetDocument {
  /** Tells it from what earlier versions wrote, which has none. */
  readonly version: 2;
  /** By {@linkcode workloadKey}. */
  readonly targets: Readonly<Record<string, TargetState>>;
  /** Messages that may still be edited. */
  readonly messages: readonly StatusMessage[];
}

/** Where the document is kept; a call is on disk when it returns. */
export interface TargetDocumentStore {
  /** The document, of this or an earlier version; undefined before it was first saved. */
  load(): object | undefined;
  /** Replaces the document. */
  save(document: TargetDocument): void;
}

/** The document in memory. Changes last once it is saved. */
export class TargetStates {
  readonly #store: TargetDocumentStore;
  readonly #targets: Map<string, TargetState>;
  #messages: StatusMessage[];
  #isChanged = false;

  /** What is kept of workloads that are no targets any more is forgotten. */
  constructor(store: TargetDocumentStore, targets: readonly Target[]) {
    this.#store = store;
    const document = store.load();
    const { targets: states, messages } = document === undefined
      ? { targets: {}, messages: [] }
      : readDocument(document, targets);
    const keys = targets.map(workloadKey);
    this.#targets = new Map(Object.entries(states).filter(([workload]) => keys.includes(workload)));
    this.#messages = messages.map((message) => ({
      ...message,
      lines: message.lines.map((line) =>
        line.state === "followed" && !keys.includes(line.workload) ? { ...line, state: "final" as const } : line
      ),
    })).filter(isOpen);
  }

  /** What lasts of a target. */
  of(workload: string): TargetState {
    return this.#targets.get(workload) ?? {};
  }

  /** Changes what lasts of a target. */
  change(workload: string, changes: TargetState): void {
    this.#targets.set(workload, { ...this.of(workload), ...changes });
    this.#isChanged = true;
  }

  /** Messages in which a target is followed. */
  following(workload: string): readonly StatusMessage[] {
    return this.#messages.filter(({ lines }) =>
      lines.some((line) => line.workload === workload && line.state === "followed")
    );
  }

  /** The message that answers a command. */
  message(roomId: string, eventId: string): StatusMessage | undefined {
    return this.#messages.find((each) => each.roomId === roomId && each.eventId === eventId);
  }

  /** The message that says something of its own accord, by what tells it from others. */
  notice(eventId: string): StatusMessage | undefined {
    return this.#messages.find((each) => each.isNotice === true && each.eventId === eventId);
  }

  /** Adds or replaces a message; one in which nothing can change any more is forgotten. */
  setMessage(message: StatusMessage): void {
    const others = this.#messages.filter(({ roomId, eventId }) =>
      roomId !== message.roomId || eventId !== message.eventId
    );
    if (!isOpen(message) && others.length === this.#messages.length) return;
    this.#messages = isOpen(message) ? [...others, message] : others;
    this.#isChanged = true;
  }

  /** Writes the document down if it has changed. */
  save(): void {
    if (!this.#isChanged) return;
    this.#store.save({ version: 2, targets: Object.fromEntries(this.#targets), messages: this.#messages });
    this.#isChanged = false;
  }
}

/** Something in it may still change, or the answer is yet to be given. */
function isOpen({ answered, lines }: StatusMessage): boolean {
  return !answered || lines.length === 0 || lines.some(({ state }) => state !== "final");
}

/** The document as the first version wrote it: by alias, each with its workload. */
interface FirstDocument {
  readonly targets: Readonly<Record<string, FirstTarget>>;
  readonly stories: readonly FirstStory[];
}

interface FirstTarget {
  /** The workload; without it nobody can tell what the alias stood for. */
  readonly place?: string;
  readonly known?: { readonly replicas: number };
  readonly beforeStop?: number;
  readonly readySinceMs?: number;
  readonly startedBy?: string;
  readonly rooms?: readonly string[];
  readonly timer?: Omit<StopTimer, "intent" | "failureTold"> & { readonly before?: number };
  readonly change?: Pick<Rollout, "before" | "after" | "atMs" | "told" | "late"> & {
    readonly obstacles?: readonly string[];
  };
}

type FirstStory = Omit<StatusMessage, "lines"> & {
  readonly lines: readonly { readonly target: string; readonly text: Required<Text>; readonly watched: boolean }[];
};

/** The document, whichever version wrote it. */
function readDocument(document: object, targets: readonly Target[]): Pick<TargetDocument, "targets" | "messages"> {
  if ("version" in document) return document as TargetDocument;
  const { targets: first, stories } = document as FirstDocument;
  const keyOf = (alias: string): string => first[alias]?.place ?? "";
  const aliases = new Map(targets.map((target) => [target.alias, workloadKey(target)]));
  return {
    targets: Object.fromEntries(
      Object.values(first).flatMap((target) => target.place === undefined ? [] : [[target.place, stateOf(target)]]),
    ),
    messages: stories.map((story) => ({
      ...story,
      lines: story.lines.map(({ target, text, watched }) => ({
        workload: keyOf(target) || aliases.get(target) || target,
        text,
        state: watched ? "followed" as const : "final" as const,
      })),
    })),
  };
}

function stateOf({ place: _, known, beforeStop, timer, change, ...rest }: FirstTarget): TargetState {
  return {
    ...rest,
    expectedReplicas: known?.replicas,
    replicasBeforeStop: beforeStop,
    timer: timer && timerOf(timer),
    rollout: change && rolloutOf(change),
  };
}

/** The first version did not write down what the target was before; whatever stands at 0 by now was its doing. */
function timerOf({ before, ...timer }: NonNullable<FirstTarget["timer"]>): StopTimer {
  if (before === undefined) return timer;
  return { ...timer, intent: { before, after: 0, resourceVersion: "", generation: -1, atMs: timer.dueAtMs } };
}

function rolloutOf({ obstacles, ...change }: NonNullable<FirstTarget["change"]>): Rollout {
  return obstacles === undefined ? change : { ...change, problems: obstacles };
}
