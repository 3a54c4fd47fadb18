/**
 * Sets logging up: short text for people, JSON lines for machines. Every room logs through LogTape under the category
 * `["openclaw-toggle", room]`, and gives values as properties, so that a secret is shown as what it says of itself.
 *
 * @module
 */

import {
  configure,
  getAnsiColorFormatter,
  getJsonLinesFormatter,
  getTextFormatter,
  reset,
  type TextFormatter,
  type TextFormatterOptions,
} from "@logtape/logtape";

/** How to log. */
export interface LoggingOptions {
  /** Least level that is logged. */
  readonly level: "debug" | "info" | "warning" | "error";
  /** Text for people, or one JSON object a line. */
  readonly format: "text" | "json";
  /** Colour the text. */
  readonly colour: boolean;
  /** Writes a line, given without its newline. */
  readonly write: (line: string) => void;
}

/** Begins to log, for the whole process; disposing ends it. */
export async function startLogging(options: LoggingOptions): Promise<AsyncDisposable> {
  const format = formatterFor(options);
  await configure({
    reset: true,
    sinks: { out: (record) => options.write(format(record).trimEnd()) },
    loggers: [
      { category: "openclaw-toggle", sinks: ["out"], lowestLevel: options.level },
      { category: ["logtape", "meta"], sinks: ["out"], lowestLevel: "warning" },
    ],
  });
  return { [Symbol.asyncDispose]: reset };
}

function formatterFor({ format, colour }: LoggingOptions): TextFormatter {
  if (format === "json") {
    const json = getJsonLinesFormatter();
    const plain = getTextFormatter({ value: "bare", format: ({ message }) => message });
    // Its own message would have quotes around every text that is put in.
    return (record) => json({ ...record, message: [plain(record).trimEnd()] });
  }
  const options: TextFormatterOptions = {
    timestamp: "time",
    timeZone: null,
    level: "full",
    category: (category) => category.at(-1) ?? "",
    value: "bare",
    format: ({ timestamp, level, category, message }) => `${timestamp} ${level} ${category}: ${message}`,
  };
  return colour ? getAnsiColorFormatter(options) : getTextFormatter(options);
}
