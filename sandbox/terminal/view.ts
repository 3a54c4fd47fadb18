/**
 * Lays out the chat: turns a view and the size of the terminal into rows.
 *
 * @module
 */

import type { Typed } from "./input.ts";
import { cut, fill, harmless, widthOf, wrap } from "./text.ts";

/** A message. */
export interface Bubble {
  /** Name of the sender. */
  readonly name: string;
  /** Whether the local user sent it. */
  readonly mine: boolean;
  /** Formatted time. */
  readonly time: string;
  readonly text: string;
  /** Whether it is less important, such as an echo. */
  readonly quiet: boolean;
  /** Whether it was sent encrypted. */
  readonly encrypted: boolean;
  /** Whether it was edited. */
  readonly edited: boolean;
  /** Keys of its reactions. */
  readonly reactions: readonly string[];
}

/** A workload with its pods. */
export interface Workload {
  readonly name: string;
  /** Desired replicas. */
  readonly desired: number;
  /** Ready replicas. */
  readonly ready: number;
  /** Pods, oldest first. */
  readonly pods: readonly { readonly name: string; readonly state: string }[];
}

/** Everything to be shown. */
export interface View {
  readonly title: string;
  /** Advice on what to type, longest first. The first that fits is shown. */
  readonly advice: readonly string[];
  /** Messages, oldest first. */
  readonly messages: readonly Bubble[];
  /** Shown beside the messages, or below them if there is no room. Undefined for none. */
  readonly workload: Workload | undefined;
  /** Shown while the input line is empty. */
  readonly hint: string;
  /** Input line. */
  readonly typed: Typed;
}

export interface Size {
  readonly columns: number;
  readonly rows: number;
}

/** Style of a span. */
export type Style = "plain" | "bold" | "dim" | "mine" | "theirs" | "good" | "waiting";

/** A piece of a row. */
export interface Span {
  readonly text: string;
  readonly style: Style;
  /** Start column, from 0, regardless of how wide the terminal renders the text before it. */
  readonly column?: number;
}

/** Rows of the whole terminal and the position of the cursor, from 0. */
export interface Screen {
  readonly rows: readonly (readonly Span[])[];
  readonly cursor: { readonly row: number; readonly column: number };
}

const panelColumns = 27;
const leastColumnsWithPanel = 68;
const podLooks: Readonly<Record<string, { sign: string; style: Style }>> = {
  Pending: { sign: "○", style: "waiting" },
  Running: { sign: "◐", style: "waiting" },
  Ready: { sign: "●", style: "good" },
  Terminating: { sign: "◌", style: "dim" },
};

/** Lays out a view. If it doesn't fit, the frame is left out first, then the oldest messages. */
export function draw(view: View, size: Size): Screen {
  const columns = Math.max(1, size.columns);
  const rows = Math.max(1, size.rows);
  const beside = view.workload !== undefined && columns >= leastColumnsWithPanel && rows >= 6;
  const width = beside ? columns - panelColumns - 1 : columns;
  const rule = (joint: string): Span[] => [{
    text: beside ? "─".repeat(width) + joint + "─".repeat(panelColumns) : "─".repeat(columns),
    style: "dim",
  }];
  const top = rows >= 6 ? [header(view, columns), rule("┬")] : [];
  const below = view.workload !== undefined && !beside && rows >= 4 ? [summary(view.workload, columns)] : [];
  const input = inputLine(view, columns);
  const bottom = [...rows >= 6 ? [rule("┴")] : [], ...below, input.spans];

  const height = rows - top.length - bottom.length;
  const said = height > 0 ? conversation(view.messages, width).slice(-height) : [];
  const panel = beside && view.workload !== undefined ? workloadPanel(view.workload) : [];
  const middle = Array.from({ length: height }, (_, row): readonly Span[] => {
    const left = said[row] ?? [];
    if (!beside) return left;
    return [
      ...left,
      { text: " ".repeat(Math.max(0, width - widthOf(plain(left)))), style: "plain" },
      { text: "│", style: "dim", column: width },
      ...panel[row] ?? [],
    ];
  });
  return { rows: [...top, ...middle, ...bottom], cursor: { row: rows - 1, column: input.cursor } };
}

/** Returns a row without styles. */
export function plain(row: readonly Span[]): string {
  return row.map(({ text }) => text).join("");
}

function header({ title, advice }: View, columns: number): Span[] {
  const name = cut(` ${title}`, columns);
  const room = columns - widthOf(name);
  const words = advice.map((each) => `  ${each} `).find((each) => widthOf(each) <= room) ?? "";
  return [
    { text: name, style: "bold" },
    { text: " ".repeat(room - widthOf(words)), style: "plain" },
    { text: words, style: "dim" },
  ];
}

/**
 * Lays out messages. A heading appears when sender, minute or encryption changes. The user's own messages are on the
 * right.
 */
function conversation(messages: readonly Bubble[], columns: number): Span[][] {
  const most = Math.max(1, Math.min(columns - 2, Math.max(24, Math.floor(columns * 0.9))));
  let last: string | undefined;
  return messages.flatMap((message): Span[][] => {
    const { mine, name, time, encrypted, edited, reactions, quiet } = message;
    const place = (text: string, style: Style): Span[] => {
      const short = cut(text, columns);
      const indent = mine ? columns - widthOf(short) - 1 : 1;
      return [{ text: " ".repeat(Math.max(0, Math.min(indent, columns - widthOf(short)))), style: "plain" }, {
        text: short,
        style,
      }];
    };
    const heading = `${harmless(name)} ${time} ${encrypted ? "🔒" : "in clear!"}`;
    const begins = heading !== last
      ? [...last === undefined ? [] : [[]], place(heading, mine ? "mine" : "theirs")]
      : [];
    last = heading;
    const text = wrap(harmless(message.text) + (edited ? " (edited)" : ""), most);
    const below = reactions.length > 0 ? [place(reactions.map(harmless).join(" "), "plain")] : [];
    return [...begins, ...text.map((line) => place(line, quiet ? "dim" : "plain")), ...below];
  });
}

function workloadPanel({ name, desired, ready, pods }: Workload): Span[][] {
  const line = (text: string, style: Style): Span[] => [{ text: cut(` ${text}`, panelColumns), style }];
  const states = pods.map(({ name: pod, state }): Span[] => {
    const { sign, style } = looks(state);
    return [{ text: ` ${sign} ${state.padEnd(12)}`, style }, {
      text: cut(tailOf(pod), panelColumns - 15),
      style: "dim",
    }];
  });
  return [
    line(`Deployment ${harmless(name)}`, "bold"),
    line(`desired ${desired}   ready ${ready}`, countStyle(desired, ready)),
    [],
    line(pods.length === 0 ? "no pods" : pods.length === 1 ? "1 pod" : `${pods.length} pods`, "plain"),
    ...states,
  ];
}

function summary({ name, desired, ready, pods }: Workload, columns: number): Span[] {
  const states = pods.map(({ state }) => `${looks(state).sign} ${state}`).join("  ");
  const text = cut(` ${harmless(name)} ${ready}/${desired} ready  ${states}`, columns);
  return [{ text, style: countStyle(desired, ready) }];
}

function countStyle(desired: number, ready: number): Style {
  return desired === 0 ? "plain" : ready >= desired ? "good" : "waiting";
}

function looks(state: string): { sign: string; style: Style } {
  return podLooks[state] ?? { sign: "?", style: "plain" };
}

/** Returns the suffix that distinguishes pods of a workload. */
function tailOf(pod: string): string {
  return `…${pod.slice(pod.lastIndexOf("-"))}`;
}

function inputLine({ typed: { characters, cursor }, hint }: View, columns: number): { spans: Span[]; cursor: number } {
  const prompt = columns >= 8 ? " › " : "";
  const room = columns - prompt.length - 1;
  if (characters.length === 0) {
    return {
      spans: [{ text: prompt, style: "mine" }, { text: cut(hint, room), style: "dim" }],
      cursor: prompt.length,
    };
  }
  // Scrolls to the end before the cursor, which matters while typing.
  let first = 0;
  while (widthOf(characters.slice(first, cursor).join("")) > room) first += 1;
  return {
    spans: [{ text: prompt, style: "mine" }, { text: fill(characters.slice(first).join(""), room), style: "plain" }],
    cursor: prompt.length + widthOf(characters.slice(first, cursor).join("")),
  };
}
