/**
 * What the operator is given besides its ports: the settings that concern it, the clock, and who wants to know what it
 * does. Knows nothing of where they come from.
 *
 * @module
 */

import type { CommandWord } from "../commands/mod.ts";
import type { Backoff, BackoffPolicy, Clock } from "../async.ts";
import type { Pins, SenderTrust, UntrustedReason } from "../authorization/mod.ts";
import type { Chat, Journal, Rollouts, Scaler, Target, TargetDocumentStore } from "./ports.ts";

/** The part of the configuration that concerns the operator. */
export interface Settings {
  /** Full user ids, compared exactly. */
  readonly allowedUsers: ReadonlySet<string>;
  /** Room ids in which commands are accepted; empty: in all. */
  readonly allowedRooms: ReadonlySet<string>;
  /** What is switched, the default one first; at least one. */
  readonly targets: readonly Target[];
  /** How a command is first answered. */
  readonly echo: "message" | "reaction" | "off";
  /** Commands in unencrypted rooms are refused. */
  readonly requireEncryption: boolean;
  /** Which devices of an allowed user are trusted (SPEC 4d). */
  readonly senderTrust: SenderTrust;
  /** Master keys set by hand, by user id: such a user is trusted with that identity only. */
  readonly trustedIdentities: ReadonlyMap<string, string>;
  /** Older commands are not acted on, milliseconds. */
  readonly maxCommandAgeMs: number;
  /** A start that isn't ready by then is told to be late, milliseconds. */
  readonly startTimeoutMs: number;
  /** Replicas of a start; `previous`: those before the last stop by chat. */
  readonly startReplicas: number | "previous";
  /** A target stops by itself so long after a start that says nothing else, milliseconds; undefined: never. */
  readonly autoStopMs: number | undefined;
}

/** Why something was refused: the words of the log and of the counter. */
export type Refusal =
  | UntrustedReason
  | "stranger"
  | "invitation"
  | "unreadable"
  | "repeat"
  | "edit"
  | "reply";

/** What became of a command. */
export type Outcome = "done" | "already" | "too-old" | "overtaken" | "failed" | "refused";

/** The account of one command. */
export interface CommandRecord {
  /** Canonical word. */
  readonly command: CommandWord;
  /** Alias of the target; undefined where none is concerned, or it was not named and nothing was done. */
  readonly target: string | undefined;
  /** Who sent it. */
  readonly sender: string;
  /** Room id. */
  readonly room: string;
  /** Event id. */
  readonly event: string;
  /** What became of it. */
  readonly outcome: Outcome;
  /** Replicas before; undefined if they were not read. */
  readonly before: number | undefined;
  /** Replicas wanted afterwards; undefined if that is not known. */
  readonly after: number | undefined;
  /** From the moment it was taken up to its answer, milliseconds. */
  readonly ms: number;
}

/** Who wants to count what happens. */
export interface Observer {
  /** Something is tried again after a failure. */
  retried(): void;
  /** Something was refused. */
  refused(reason: Refusal): void;
  /** A command has been dealt with. */
  commanded(record: CommandRecord): void;
  /** An allowed user's message could not be decrypted at first. */
  undecryptable(): void;
  /** A target's count was changed; so long the cluster took to accept it. */
  scaled(target: string, ms: number): void;
  /** A target became ready, so long after its count was changed by a command. */
  ready(target: string, ms: number): void;
  /** A target's replicas as they were last seen. */
  replicas(target: string, counts: { readonly desired: number; readonly ready: number }): void;
}

/** Makes the back-off of one piece of work, which never gives up unless it is to be different. */
export type NewBackoff = (changes?: Partial<BackoffPolicy>) => Backoff;

/** Everything that an operator is made of. */
export interface Parts {
  /** Where people are. */
  readonly chat: Chat;
  /** Where the targets are. */
  readonly scaler: Scaler;
  /** How they fare. */
  readonly rollouts: Rollouts;
  /** What lasts of commands and answers. */
  readonly journal: Journal;
  /** What lasts of the targets. */
  readonly memory: TargetDocumentStore;
  /** Has calls to journal, memory and pins made as one: all of them last, or none. */
  readonly transaction: (calls: () => void) => void;
  /** What users are known by. */
  readonly pins: Pins;
  /** The configuration's part. */
  readonly settings: Settings;
  /** Time. */
  readonly clock: Clock;
  /** Makes the back-off of one piece of work. */
  readonly newBackoff: NewBackoff;
  /** Who counts. */
  readonly observer: Observer;
}
