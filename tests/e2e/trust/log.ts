/** Reads the operator's log while it grows. */

/** A line of the log. */
export interface LogLine {
  /** INFO, WARN and so on. */
  readonly level: string;
  readonly message: string;
  /** Values that were inserted into the message. */
  readonly properties: Readonly<Record<string, unknown>>;
}

/**
 * Some homeservers deliver to-device messages later than room messages that were sent after them, by up to this many
 * milliseconds.
 */
export const toDeviceMs = 15_000;

/** A log file of JSON lines. */
export class OperatorLog {
  readonly #path: string;

  /** @param path log file of the operator */
  constructor(path: string) {
    this.#path = path;
  }

  /** Returns all complete lines so far. Lines that aren't JSON, such as output of the runtime, are skipped. */
  async lines(): Promise<LogLine[]> {
    const text = await Deno.readTextFile(this.#path);
    return text.split("\n").slice(0, -1).filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
  }

  /**
   * Waits for the first line that is accepted. Existing lines count.
   *
   * @param from number of lines to skip
   */
  async first(what: string, accept: (line: LogLine) => boolean, from = 0, deadlineMs = 10_000): Promise<LogLine> {
    const found = await this.find(accept, from, deadlineMs);
    if (found) return found;
    const end = (await this.lines()).slice(-15).map(({ message }) => message).join("\n");
    throw new Error(`The log says nothing of ${what} within ${deadlineMs} ms; its end:\n${end}`);
  }

  /** Like {@linkcode OperatorLog.first}, but returns undefined at the deadline. */
  async find(accept: (line: LogLine) => boolean, from: number, deadlineMs: number): Promise<LogLine | undefined> {
    const deadline = performance.now() + deadlineMs;
    for (;;) {
      const found = (await this.lines()).slice(from).find(accept);
      if (found || performance.now() >= deadline) return found;
      await new Promise((resolve) => setTimeout(resolve, 15));
    }
  }

  /** Returns the outcome of an event, as logged, or undefined if the log doesn't mention it. */
  async verdictOn(eventId: string): Promise<string | undefined> {
    const about = (await this.lines()).filter(({ properties }) => properties["event"] === eventId);
    const words = about.map(({ message, properties: { reason, command, outcome, why } }) => {
      if (message.startsWith("refused")) return String(reason);
      if (message.startsWith("failed to decrypt")) return `undecryptable: ${why}`;
      return `${command}: ${outcome}`;
    });
    return words.length === 0 ? undefined : words.join(", ");
  }

  /**
   * Returns the final outcome of an event. If its key is late, waits for it, unless the event is expected to have none.
   * Without the key, returns the current outcome.
   */
  async finalVerdictOn(eventId: string, isExpected: (verdict: string) => boolean): Promise<string | undefined> {
    const first = await this.verdictOn(eventId);
    if (!first?.startsWith("undecryptable") || isExpected(first)) return first;
    const isLater = ({ message, properties }: LogLine) =>
      properties["event"] === eventId && !message.startsWith("failed to decrypt");
    await this.find(isLater, 0, toDeviceMs);
    return (await this.verdictOn(eventId))?.split(", ").at(-1);
  }

  /** Returns the number of refusals by reason. */
  async refusals(): Promise<Map<string, number>> {
    const counts = new Map<string, number>();
    for (const { message, properties: { reason } } of await this.lines()) {
      if (!/^(refused|declined)\b/.test(message) || reason === undefined) continue;
      counts.set(String(reason), (counts.get(String(reason)) ?? 0) + 1);
    }
    return counts;
  }
}
