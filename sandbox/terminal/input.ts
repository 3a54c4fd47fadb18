/**
 * Line editor: turns bytes of a terminal in raw mode into keys, and keys into the edited line.
 *
 * @module
 */

import { graphemes, harmless } from "./text.ts";

/** A key, or text that was typed or pasted. */
export type Key =
  | { readonly text: string }
  | "enter"
  | "backspace"
  | "delete"
  | "left"
  | "right"
  | "home"
  | "end"
  | "up"
  | "down"
  | "clear"
  | "clear-word"
  | "leave";

/** The edited line and the cursor. */
export interface Typed {
  /** Grapheme clusters of the line. */
  readonly characters: readonly string[];
  /** Index of the character at the cursor; the length at the end of the line. */
  readonly cursor: number;
}

export const nothingTyped: Typed = { characters: [], cursor: 0 };

const keys: Readonly<Record<string, Key>> = {
  "\r": "enter",
  "\n": "enter",
  "\x7f": "backspace",
  "\b": "backspace",
  "\x01": "home",
  "\x05": "end",
  "\x03": "leave",
  "\x04": "leave",
  "\x15": "clear",
  "\x17": "clear-word",
  "\x1b[A": "up",
  "\x1b[B": "down",
  "\x1b[D": "left",
  "\x1b[C": "right",
  "\x1b[H": "home",
  "\x1b[F": "end",
  "\x1b[1~": "home",
  "\x1b[4~": "end",
  "\x1b[3~": "delete",
};

/** Matches a known key, a complete escape sequence (ECMA-48, 5.4) of an unknown key, or text. */
// deno-lint-ignore no-control-regex -- control characters are what this is about
const token = /\x1b[[O][0-?]*[ -/]*[@-~]|\x1b(?=[^[O])|[\x00-\x1a\x1c-\x1f\x7f]|[^\x00-\x1f\x7f]+/y;

/** Parses keys from terminal input. An incomplete sequence is kept until the rest arrives. */
export class KeyReader {
  readonly #decoder = new TextDecoder();
  #rest = "";

  /** Parses a chunk of input. */
  read(bytes: Uint8Array): Key[] {
    const all = this.#rest + this.#decoder.decode(bytes, { stream: true });
    const found: Key[] = [];
    token.lastIndex = 0;
    let end = 0;
    for (let match = token.exec(all); match !== null; match = token.exec(all)) {
      end = token.lastIndex;
      const [whole] = match;
      const key = keys[whole.replace("\x1bO", "\x1b[")];
      if (key !== undefined) found.push(key);
      else if (whole >= " " && whole !== "\x7f") found.push({ text: whole });
    }
    this.#rest = all.slice(end);
    return found;
  }
}

/** Input history, recalled with the arrow keys as in a shell. */
export class History {
  readonly #lines: string[] = [];
  /** Index of the line that is shown. The number of lines: the one that is being typed. */
  #place = 0;
  /** The line that was being typed before another one was recalled. */
  #draft: Typed = nothingTyped;

  /** Adds a line. */
  add(line: string): void {
    if (line !== "" && this.#lines.at(-1) !== line) this.#lines.push(line);
    this.#place = this.#lines.length;
  }

  /** Returns the previous or next line. At either end, returns the same one. */
  recall(key: "up" | "down", typed: Typed): Typed {
    if (this.#place === this.#lines.length) this.#draft = typed;
    const place = this.#place + (key === "up" ? -1 : 1);
    if (place < 0 || place > this.#lines.length) return typed;
    this.#place = place;
    const line = this.#lines[place];
    if (line === undefined) return this.#draft;
    const characters = graphemes(line);
    return { characters, cursor: characters.length };
  }
}

/** Applies a key to the line. Keys that don't edit leave it unchanged. */
export function edit({ characters, cursor }: Typed, key: Key): Typed {
  const before = characters.slice(0, cursor);
  const after = characters.slice(cursor);
  const join = (left: readonly string[], right: readonly string[]): Typed => {
    // Segmented again, because new characters may combine with their neighbours.
    const start = graphemes(left.join(""));
    return { characters: [...start, ...right], cursor: start.length };
  };
  if (typeof key === "object") return join([...before, harmless(key.text)], after);
  switch (key) {
    case "backspace":
      return join(before.slice(0, -1), after);
    case "delete":
      return join(before, after.slice(1));
    case "clear":
      return join([], after);
    case "clear-word":
      return join([before.join("").replace(/\S*\s*$/, "")], after);
    case "left":
      return { characters, cursor: Math.max(0, cursor - 1) };
    case "right":
      return { characters, cursor: Math.min(characters.length, cursor + 1) };
    case "home":
      return { characters, cursor: 0 };
    case "end":
      return { characters, cursor: characters.length };
    default:
      return { characters, cursor };
  }
}
