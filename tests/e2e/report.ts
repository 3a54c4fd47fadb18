/**
 * Output of the end-to-end suite: a table of messages and effects, and some numbers.
 *
 * @module
 */

/** A row of the table. */
export interface Row {
  /** Subject. */
  readonly case: string;
  /** What the person sent. */
  readonly sent: string;
  /** The answer. */
  readonly back: string;
  /** Replicas before. */
  readonly before: number;
  /** Replicas after. */
  readonly after: number;
  /** Time from sending to the answer, in milliseconds. Undefined if no answer is expected. */
  readonly ms: number | undefined;
}

/** Collects and formats the output. */
export class Report {
  readonly #rows: Row[] = [];
  readonly #facts: string[] = [];

  /** Adds a row. */
  add(row: Row): void {
    this.#rows.push(row);
  }

  /** Adds a sentence below the table. */
  fact(sentence: string): void {
    this.#facts.push(sentence);
  }

  /** Formats the table and the sentences. */
  toString(): string {
    const head = ["case", "sent", "came back", "replicas", "ms"];
    const body = this.#rows.map((row) =>
      [
        row.case,
        row.sent,
        row.back,
        `${row.before} → ${row.after}`,
        row.ms === undefined ? "" : row.ms.toFixed(0),
      ].map(oneLine)
    );
    const widths = head.map((title, column) =>
      Math.max(title.length, ...body.map((cells) => cells[column]?.length ?? 0))
    );
    const line = (cells: readonly string[]) =>
      cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(" | ").trimEnd();
    const rule = widths.map((width) => "-".repeat(width)).join("-|-");
    return [line(head), rule, ...body.map(line), "", ...this.#facts].join("\n");
  }
}

/** Returns the median, or the upper one of two medians. */
export function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0;
}

function oneLine(text: string): string {
  const line = text.replaceAll("\n", "⏎");
  return line.length > 60 ? `${line.slice(0, 59)}…` : line;
}
