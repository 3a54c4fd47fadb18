/**
 * A chat in the terminal. It shows a view on the alternate screen, redraws it on changes and yields the lines that are
 * typed. It restores the terminal when it is disposed of or when the process exits.
 *
 * @module
 */

import { edit, History, type Key, KeyReader, nothingTyped } from "./input.ts";
import { draw, type Screen, type Style, type View } from "./view.ts";

export type { Typed } from "./input.ts";
export type { Bubble, View, Workload } from "./view.ts";

const codes: Readonly<Record<Style, string>> = {
  plain: "",
  bold: "1",
  dim: "2",
  mine: "36",
  theirs: "35",
  good: "32",
  waiting: "33",
};
/** Enables the alternate screen and disables line wrapping (xterm control sequences, DECSET). */
const enter = "\x1b[?1049h\x1b[?7l";
const leave = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";

/** A chat that uses the whole terminal. */
export class TerminalChat implements Disposable {
  readonly #coloured: boolean;
  readonly #restore: () => void;
  readonly #redraw = () => this.#paint();
  readonly #history = new History();
  #view: View;
  #due = false;
  #over = false;

  /**
   * Takes over the terminal.
   *
   * @param view first view
   * @param coloured whether to use colours and other styles
   */
  constructor(view: Omit<View, "typed">, coloured: boolean) {
    this.#view = { ...view, typed: nothingTyped };
    this.#coloured = coloured;
    this.#restore = () => this[Symbol.dispose]();
    globalThis.addEventListener("unload", this.#restore);
    Deno.stdin.setRaw(true);
    write(enter);
    if (Deno.build.os !== "windows") Deno.addSignalListener("SIGWINCH", this.#redraw);
    this.#paint();
  }

  /** Changes the view. */
  show(change: Partial<Omit<View, "typed">>): void {
    this.#change(change);
  }

  /**
   * Yields the lines that are entered, except empty ones. Ends when the user leaves or the terminal is closed.
   *
   * @throws the signal's reason when it aborts
   */
  async *lines(signal: AbortSignal): AsyncGenerator<string, void> {
    signal.throwIfAborted();
    const reader = new KeyReader();
    const input = Deno.stdin.readable.getReader();
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    while (true) {
      const { value: bytes } = await Promise.race([input.read(), aborted]);
      if (bytes === undefined) return;
      for (const key of reader.read(bytes)) {
        if (key === "leave") return;
        const line = this.#press(key);
        if (line !== undefined) yield line;
      }
    }
  }

  /** Restores the terminal. */
  [Symbol.dispose](): void {
    if (this.#over) return;
    this.#over = true;
    globalThis.removeEventListener("unload", this.#restore);
    if (Deno.build.os !== "windows") Deno.removeSignalListener("SIGWINCH", this.#redraw);
    write(leave);
    try {
      Deno.stdin.setRaw(false);
    } catch {
      // The terminal was closed, so there is nothing to restore.
    }
  }

  #press(key: Key): string | undefined {
    const { typed } = this.#view;
    if (key === "up" || key === "down") return this.#change({ typed: this.#history.recall(key, typed) });
    if (key !== "enter") return this.#change({ typed: edit(typed, key) });
    this.#change({ typed: nothingTyped });
    const line = typed.characters.join("").trim();
    this.#history.add(line);
    return line || undefined;
  }

  /** Redraws once for all changes of one tick. */
  #change(change: Partial<View>): undefined {
    this.#view = { ...this.#view, ...change };
    if (this.#due) return;
    this.#due = true;
    setTimeout(() => this.#paint());
  }

  #paint(): void {
    this.#due = false;
    if (this.#over) return;
    let size = { columns: 80, rows: 24 };
    try {
      size = Deno.consoleSize();
    } catch {
      // The terminal was closed. The reader of the keys notices that.
    }
    write(paint(draw(this.#view, size), this.#coloured));
  }
}

/** Returns the control sequences that draw a screen, as one frame if the terminal supports that. */
function paint({ rows, cursor }: Screen, coloured: boolean): string {
  const lines = rows.map((row, index) => {
    const spans = row.map(({ text, style, column }) => {
      const code = coloured ? codes[style] : "";
      const start = column === undefined ? "" : `\x1b[${column + 1}G`;
      return start + (code === "" ? text : `\x1b[${code}m${text}\x1b[0m`);
    });
    return `\x1b[${index + 1};1H${spans.join("")}\x1b[K`;
  });
  return `\x1b[?2026h\x1b[?25l${lines.join("")}\x1b[${cursor.row + 1};${cursor.column + 1}H\x1b[?25h\x1b[?2026l`;
}

function write(text: string): void {
  const bytes = new TextEncoder().encode(text);
  try {
    for (let done = 0; done < bytes.length;) done += Deno.stdout.writeSync(bytes.subarray(done));
  } catch {
    // The terminal was closed. The reader of the keys notices that.
  }
}
