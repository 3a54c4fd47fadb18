/**
 * Sets up logging: short text for people, JSON lines for machines. Every room logs through LogTape under the category
 * `["openclaw-toggle", room]`, and passes values as properties, so that a `Secret` is logged in redacted form.
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

/** Logging options. */
export interface LoggingOptions {
  /** Lowest level that is logged. */
  readonly level: "debug" | "info" | "warning" | "error";
  /** Text for people, or one JSON object per line. */
  readonly format: "text" | "json";
  /** Whether to colour the text. */
  readonly colour: boolean;
  /** Writes a line, which is passed without a newline. */
  readonly write: (line: string) => void;
}

/** Starts logging for the whole process. Disposing stops it. */
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
    // LogTape's own message would put quotes around every interpolated text.
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
