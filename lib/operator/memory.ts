/**
 * What lasts of the targets between commands, as one small document: counts, timers, and what is being told of a change
 * that goes on. Knows nothing of what becomes of it.
 *
 * @module
 */

import type { Text } from "../commands/mod.ts";
import type { Memory, Target } from "./ports.ts";

/** What lasts. */
export interface Remembered {
  /** By alias. */
  readonly targets: Readonly<Record<string, RememberedTarget>>;
  /** Answers that go on being edited. */
  readonly stories: readonly Story[];
}

/** What lasts of a target. */
export interface RememberedTarget {
  /** Which workload it is: its name may come to be another one's, or change. */
  readonly place?: string;
  /** Its count as we have set it or told it last; another one is somebody else's doing. */
  readonly known?: { readonly replicas: number } | undefined;
  /** Replicas before the last stop by chat, never 0. */
  readonly beforeStop?: number | undefined;
  /** Since when it is ready, milliseconds since the epoch. */
  readonly readySinceMs?: number | undefined;
  /** Who started it last by chat. */
  readonly startedBy?: string | undefined;
  /** Where it was last commanded, the latest first. */
  readonly rooms?: readonly string[];
  /** When it stops by itself. */
  readonly timer?: Timer | undefined;
  /** Our latest change of its count, as long as there may be something to tell of it. */
  readonly change?: Change | undefined;
}

/** When a target stops by itself. */
export interface Timer {
  /** Milliseconds since the epoch. */
  readonly dueAtMs: number;
  /** Room in which it was set. */
  readonly roomId: string;
  /** Who set it. */
  readonly user: string;
  /** The room was told that it is nearly over. */
  readonly warned: boolean;
  /** Replicas before the stop that has been begun. */
  readonly before?: number;
}

/** A change of a count that is watched. */
export interface Change {
  /** Replicas before. */
  readonly before: number;
  /** Replicas wanted. */
  readonly after: number;
  /** When it was made, milliseconds since the epoch. */
  readonly atMs: number;
  /** What was told last of how it fares. */
  readonly told: "nothing" | "partly" | "failing" | "ready";
  /** What was told to be in the way for certain, each once. */
  readonly obstacles?: readonly string[];
  /** It was told that it is not ready in time. */
  readonly late: boolean;
}

/** An answer that is edited as things change. */
export interface Story {
  /** Event of the command. */
  readonly eventId: string;
  /** Its room. */
  readonly roomId: string;
  /** Its thread, by the root's event id. */
  readonly threadId?: string;
  /** Who is told when it ends badly or late. */
  readonly users: readonly string[];
  /** What is said of each target; those that are not watched (any more) only stay in the text. */
  readonly lines: readonly { readonly target: string; readonly text: Required<Text>; readonly watched: boolean }[];
  /** The answer itself is among what is to be said. */
  readonly answered: boolean;
  /** Edits so far. */
  readonly edits: number;
  /** Messages of their own so far. */
  readonly alerts: number;
}

/** What is remembered; every change of it is on disk when it returns. */
export class Recall {
  readonly #memory: Memory;
  readonly #targets: readonly Target[];
  #all: Remembered | undefined;

  /** Reads nothing yet; what is remembered of other workloads than these is forgotten then. */
  constructor(memory: Memory, targets: readonly Target[]) {
    this.#memory = memory;
    this.#targets = targets;
  }

  /** What lasts of a target. */
  of(alias: string): RememberedTarget {
    return this.#remembered.targets[alias] ?? {};
  }

  /** Changes what lasts of a target. */
  change(alias: string, change: RememberedTarget): void {
    const { targets, stories } = this.#remembered;
    const target = this.#targets.find((each) => each.alias === alias);
    const place = target && placeOf(target);
    this.#save({ targets: { ...targets, [alias]: { ...targets[alias], ...change, ...place && { place } } }, stories });
  }

  /** Answers in which a target is watched. */
  storiesOf(alias: string): readonly Story[] {
    return this.#remembered.stories.filter(({ lines }) => lines.some((line) => line.target === alias && line.watched));
  }

  /** The answer to a command, if something in it is watched. */
  story(roomId: string, eventId: string): Story | undefined {
    return this.#remembered.stories.find((each) => each.roomId === roomId && each.eventId === eventId);
  }

  /** Adds or replaces an answer; one that was given and in which nothing is watched any more is forgotten. */
  tell(story: Story): void {
    const { targets, stories } = this.#remembered;
    const others = stories.filter(({ roomId, eventId }) => roomId !== story.roomId || eventId !== story.eventId);
    const isOver = story.answered && story.lines.every(({ watched }) => !watched);
    this.#save({ targets, stories: isOver ? others : [...others, story] });
  }

  get #remembered(): Remembered {
    return this.#all ??= this.#known(this.#memory.load() ?? { targets: {}, stories: [] });
  }

  /** What is remembered goes with its workload, under the name that this has now. */
  #known({ targets, stories }: Remembered): Remembered {
    const aliases = new Map(this.#targets.map((target) => [placeOf(target), target.alias]));
    const aliasOf = (alias: string): string | undefined => aliases.get(targets[alias]?.place ?? "");
    return {
      targets: Object.fromEntries(
        Object.entries(targets).flatMap(([was, target]) => {
          const alias = aliasOf(was);
          return alias === undefined ? [] : [[alias, target]];
        }),
      ),
      stories: stories.map((story) => ({
        ...story,
        lines: story.lines.map((line) => {
          const alias = aliasOf(line.target);
          return { ...line, target: alias ?? line.target, watched: line.watched && alias !== undefined };
        }),
      })).filter(({ lines, answered }) => !answered || lines.some(({ watched }) => watched)),
    };
  }

  #save(remembered: Remembered): void {
    this.#memory.save(remembered);
    this.#all = remembered;
  }
}

function placeOf({ kind, namespace, name }: Target): string {
  return `${kind}/${namespace}/${name}`;
}
