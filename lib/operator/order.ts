/**
 * A command on its way through its targets, and how it is written down meanwhile.
 *
 * @module
 */

import type { Acting, InboxEvent, Part } from "./ports.ts";

/** A command with all that it takes to carry it out. */
export interface Order {
  /** The event that it came in. */
  readonly inbox: InboxEvent;
  /** Canonical word. */
  readonly word: "start" | "stop" | "extend" | "status";
  /** What was typed. */
  readonly typed: string;
  /** The time that was asked for, milliseconds. */
  readonly durationMs: number | undefined;
  /** Of a status: commands before it that are still being carried out, as they were typed. */
  readonly underWay?: readonly string[];
  /** Its targets by alias, and what has become of it at each. */
  readonly parts: Map<string, Part>;
}

/** What is written down of an order while it is carried out. */
export function actingOf({ word: command, durationMs, parts }: Order): Acting {
  return { command, durationMs, parts: [...parts.values()] };
}

/** An order that was under way when the operator was interrupted: whether a change got through is not known. */
export function resumed(inbox: InboxEvent, { command, durationMs, parts }: Acting): Order {
  const word = command === "stop" || command === "extend" ? command : "start";
  return { inbox, word, typed: command, durationMs, parts: new Map(parts.map((part) => [part.target, part])) };
}
