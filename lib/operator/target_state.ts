/**
 * State of the targets that lasts between commands and across restarts: one sealed document. It identifies targets by
 * workload, because their aliases may change in the configuration.
 *
 * @module
 */

import type { Text } from "../commands/mod.ts";
import type { Target } from "../config/mod.ts";
import { type Intent, workloadKey } from "./target_command.ts";

/** Persisted state of a target. */
export interface TargetState {
  /** Desired replicas as we last set, read or announced them. Any other count is a change by somebody else. */
  readonly expectedReplicas?: number | undefined;
  /** Replicas before the operator last stopped the target; never 0. */
  readonly replicasBeforeStop?: number | undefined;
  /** Since when the target is ready, milliseconds since the epoch. */
  readonly readySinceMs?: number | undefined;
  /** User who last started it by chat. */
  readonly startedBy?: string | undefined;
  /** Rooms where it was last commanded, the latest first. */
  readonly rooms?: readonly string[] | undefined;
  /** When it stops automatically. */
  readonly timer?: StopTimer | undefined;
  /** How far its schedule has been followed. */
  readonly schedule?: FollowedSchedule | undefined;
  /** The latest stop by chat. */
  readonly stopped?: ChatStop | undefined;
  /** Its idle time, while it is on. */
  readonly idle?: Idle | undefined;
  /** The latest change of its replica count by chat, while there may be something to report about it. */
  readonly rollout?: Rollout | undefined;
}

/** A stop by chat. */
export interface ChatStop {
  /** Position of its event in the journal. Earlier messages wake nothing, even if their keys arrive later. */
  readonly seq: number;
  /** Whether it is held: messages to the target's agent don't wake it. */
  readonly isHeld: boolean;
  /** Whether somebody who wrote to the agent since has been told that. */
  readonly isTold?: boolean;
}

/** What the idle time is computed from. */
export interface Idle {
  /**
   * When a user last wrote in the rooms of its agents, or the target was turned on or found on, milliseconds since the
   * epoch.
   */
  readonly userAtMs: number;
  /** When a user last wrote there, milliseconds since the epoch. */
  readonly messageAtMs?: number;
  /** Room in which that was; undefined if nobody has written. */
  readonly roomId?: string;
  /** When an agent last wrote or typed, milliseconds since the epoch. */
  readonly agentAtMs?: number;
  /** Warning that the target is about to be stopped, if it was sent. */
  readonly warning?: IdleWarning;
}

/** Warning before an idle target is stopped. Times are milliseconds since the epoch. */
export interface IdleWarning {
  /** When it was sent. Also identifies the warning. */
  readonly saidAtMs: number;
  /** When the target is stopped, unless somebody writes. */
  readonly stopsAtMs: number;
  /** Start of the quiet period. A later message keeps the target on. */
  readonly quietSinceMs: number;
  /** Room in which it was sent; undefined for one where the target was last commanded, or one that its agent is in. */
  readonly roomId?: string;
  /** Whether the room has been told that the target can't be stopped. */
  readonly failureTold?: boolean;
  /** The stop, once it has begun. */
  readonly intent?: Intent;
}

/** When a target stops automatically. */
export interface StopTimer {
  /** Due time, milliseconds since the epoch. */
  readonly dueAtMs: number;
  /** Room in which it was set. */
  readonly roomId: string;
  /** Thread in which it was set, by the event id of its root. */
  readonly threadId?: string;
  /** User who set it. */
  readonly user: string;
  /** Set if the timer comes from AUTO_STOP instead of a request. It then doesn't apply in an up-time. */
  readonly isDefault?: true;
  /** Whether the room has been warned that the time is nearly up. */
  readonly warned: boolean;
  /** Whether the room has been told that the target can't be stopped. */
  readonly failureTold?: boolean;
  /** The stop, once it has begun. */
  readonly intent?: Intent;
}

/** How far a schedule has been followed. */
export interface FollowedSchedule {
  /** The schedule as configured. After it was changed, no edge counts as missed. */
  readonly text: string;
  /** The latest edge that has been handled, milliseconds since the epoch. */
  readonly edgeAtMs: number;
  /** The change at the next edge, once it has begun. */
  readonly intent?: Intent;
  /** Whether rooms have been told that the next edge can't be followed. */
  readonly failureTold?: boolean;
}

/** A change of a replica count whose progress is reported. */
export interface Rollout {
  /** Replicas before. */
  readonly before: number;
  /** Desired replicas. */
  readonly after: number;
  /** When it was made, milliseconds since the epoch. */
  readonly atMs: number;
  /**
   * The target's generation after it. What the watch shows of an earlier one is older than the change. Undefined if an
   * earlier version of the operator has stored it; whatever the watch shows since then is newer.
   */
  readonly generation?: number;
  /** When the message that woke the target was sent, milliseconds since the epoch; undefined if no message did. */
  readonly wokenAtMs?: number;
  /** What was last reported. */
  readonly told: "nothing" | "partly" | "failing" | "ready";
  /** Certain problems that were reported, each one once, by {@linkcode problemKey}. */
  readonly problems?: readonly string[];
  /** Kinds of the provisional problems that are being shown; empty if none are shown any more. */
  readonly provisional?: string;
  /** Whether it was reported that the target isn't ready in time. */
  readonly late: boolean;
  /** Whether it was reported that the target can't be read. */
  readonly unreadableTold?: boolean;
}

/** The message that answers a command and is edited as things change. */
export interface StatusMessage {
  /** Event id of the command, or another key that identifies the message. */
  readonly eventId: string;
  /** Room id. */
  readonly roomId: string;
  /** Thread, by the event id of its root. */
  readonly threadId?: string;
  /** Users to mention if the rollout fails or ends late. */
  readonly users: readonly string[];
  /** Whether it doesn't answer an event. */
  readonly isNotice?: boolean;
  /** Whether it answers a message to an agent. The agent shows by itself that it is ready. */
  readonly isToAgent?: boolean;
  /** The command as it was typed, if the first line repeats it. */
  readonly echo?: string;
  /** Text by workload; empty while the message only shows that the command was seen. */
  readonly lines: readonly StatusLine[];
  /** Whether the answer has been queued. Later changes are sent as edits of it. */
  readonly answered: boolean;
  /** Number of edits so far. */
  readonly edits: number;
  /** Number of messages so far that mention people. */
  readonly alerts: number;
}

/** What a status message says about one target. */
export interface StatusLine {
  /** The target's {@linkcode workloadKey}. */
  readonly workload: string;
  /** Text of the line. */
  readonly text: Required<Text>;
  /** `waiting`: until the command has ended; `followed`: it changes with the rollout; `final`: it no longer changes. */
  readonly state: "waiting" | "followed" | "final";
}

/** The persisted document about all targets. */
export interface TargetDocument {
  /** Version. Documents of earlier versions have none. */
  readonly version: 2;
  /** States by {@linkcode workloadKey}. */
  readonly targets: Readonly<Record<string, TargetState>>;
  /** Messages that may still be edited. */
  readonly messages: readonly StatusMessage[];
}

/** Persists the document. Every call is on disk when it returns. */
export interface TargetDocumentStore {
  /** Returns the document, of this or an earlier version; undefined if it was never saved. */
  load(): object | undefined;
  /** Replaces the document. */
  save(document: TargetDocument): void;
}

/** The document in memory. Changes are lost unless saved. */
export class TargetStates {
  readonly #store: TargetDocumentStore;
  readonly #targets: Map<string, TargetState>;
  #messages: StatusMessage[];
  #isChanged = false;

  /** Loads the document. Drops the state of workloads that are no longer targets. */
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

  /** Returns the state of a target. */
  of(workload: string): TargetState {
    return this.#targets.get(workload) ?? {};
  }

  /** Changes the state of a target. */
  change(workload: string, changes: TargetState): void {
    this.#targets.set(workload, { ...this.of(workload), ...changes });
    this.#isChanged = true;
  }

  /** Returns the messages that follow a target. */
  following(workload: string): readonly StatusMessage[] {
    return this.#messages.filter(({ lines }) =>
      lines.some((line) => line.workload === workload && line.state === "followed")
    );
  }

  /** Returns the message that answers a command. */
  message(roomId: string, eventId: string): StatusMessage | undefined {
    return this.#messages.find((each) => each.roomId === roomId && each.eventId === eventId);
  }

  /** Returns a message that doesn't answer an event, by its key. */
  notice(eventId: string): StatusMessage | undefined {
    return this.#messages.find((each) => each.isNotice === true && each.eventId === eventId);
  }

  /** Adds or replaces a message. Drops it if nothing in it can change any more. */
  setMessage(message: StatusMessage): void {
    const others = this.#messages.filter(({ roomId, eventId }) =>
      roomId !== message.roomId || eventId !== message.eventId
    );
    if (!isOpen(message) && others.length === this.#messages.length) return;
    this.#messages = isOpen(message) ? [...others, message] : others;
    this.#isChanged = true;
  }

  /** Saves the document if it has changed. */
  save(): void {
    if (!this.#isChanged) return;
    this.#store.save({ version: 2, targets: Object.fromEntries(this.#targets), messages: this.#messages });
    this.#isChanged = false;
  }
}

/** Whether something in the message may still change, or its answer is still missing. */
function isOpen({ answered, lines }: StatusMessage): boolean {
  return !answered || lines.length === 0 || lines.some(({ state }) => state !== "final");
}

/** The document in its first version: by alias, each with its workload. */
interface FirstDocument {
  readonly targets: Readonly<Record<string, FirstTarget>>;
  readonly stories: readonly FirstStory[];
}

interface FirstTarget {
  /** The workload. Without it nobody can tell what the alias meant. */
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

/** Reads a document of any version. */
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

/**
 * The first version stored no resourceVersion and generation. If the target is at 0 replicas now, we assume that this
 * stop was made.
 */
function timerOf({ before, ...timer }: NonNullable<FirstTarget["timer"]>): StopTimer {
  if (before === undefined) return timer;
  return { ...timer, intent: { before, after: 0, resourceVersion: "", generation: -1, atMs: timer.dueAtMs } };
}

function rolloutOf({ obstacles, ...change }: NonNullable<FirstTarget["change"]>): Rollout {
  return obstacles === undefined ? change : { ...change, problems: obstacles };
}
