/** The operator's log, read as it grows. */

/** A line of it. */
export interface LogLine {
  /** INFO, WARN and so on. */
  readonly level: string;
  /** Text. */
  readonly message: string;
  /** What was put into the text. */
  readonly properties: Readonly<Record<string, unknown>>;
}

/** How late some homeservers hand over what is sent device to device, after what is said in a room; milliseconds. */
export const toDeviceMs = 15_000;

/** A log file of JSON lines. */
export class OperatorLog {
  readonly #path: string;

  /** @param path where the operator writes it */
  constructor(path: string) {
    this.#path = path;
  }

  /** All complete lines so far. What is no JSON, as the runtime itself may print, is left out. */
  async lines(): Promise<LogLine[]> {
    const text = await Deno.readTextFile(this.#path);
    return text.split("\n").slice(0, -1).filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
  }

  /**
   * The first line that is accepted, whether it is there already or comes in time.
   *
   * @param from how many lines are not looked at
   */
  async first(what: string, accept: (line: LogLine) => boolean, from = 0, deadlineMs = 10_000): Promise<LogLine> {
    const found = await this.find(accept, from, deadlineMs);
    if (found) return found;
    const end = (await this.lines()).slice(-15).map(({ message }) => message).join("\n");
    throw new Error(`The log says nothing of ${what} within ${deadlineMs} ms; its end:\n${end}`);
  }

  /** The same; undefined if it doesn't come in time. */
  async find(accept: (line: LogLine) => boolean, from: number, deadlineMs: number): Promise<LogLine | undefined> {
    const deadline = performance.now() + deadlineMs;
    for (;;) {
      const found = (await this.lines()).slice(from).find(accept);
      if (found || performance.now() >= deadline) return found;
      await new Promise((resolve) => setTimeout(resolve, 15));
    }
  }

  /** What became of an event, in the log's own words; undefined where the log does not mention it. */
  async verdictOn(eventId: string): Promise<string | undefined> {
    const about = (await this.lines()).filter(({ properties }) => properties["event"] === eventId);
    const words = about.map(({ message, properties: { reason, command, outcome, why } }) => {
      if (message.startsWith("refused")) return String(reason);
      if (message.startsWith("failed to decrypt")) return `undecryptable: ${why}`;
      return `${command}: ${outcome}`;
    });
    return words.length === 0 ? undefined : words.join(", ");
  }

  /** What became of an event once its key has come, which may be late; the same where it doesn't come. */
  async verdictWithKey(eventId: string): Promise<string | undefined> {
    const isLater = ({ message, properties }: LogLine) =>
      properties["event"] === eventId && !message.startsWith("failed to decrypt");
    await this.find(isLater, 0, toDeviceMs);
    return (await this.verdictOn(eventId))?.split(", ").at(-1);
  }

  /** How often something was refused for a reason. */
  async refusals(): Promise<Map<string, number>> {
    const counts = new Map<string, number>();
    for (const { message, properties: { reason } } of await this.lines()) {
      if (!/^(refused|declined)\b/.test(message) || reason === undefined) continue;
      counts.set(String(reason), (counts.get(String(reason)) ?? 0) + 1);
    }
    return counts;
  }
}
