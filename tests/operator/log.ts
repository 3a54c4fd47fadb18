/** What the operator logs. */

import { configure, type LogRecord, reset } from "@logtape/logtape";

/** Lines of the operator's log while something runs. */
export async function logOf(run: () => Promise<void>): Promise<string[]> {
  const records: LogRecord[] = [];
  await configure({
    sinks: { test: (record) => void records.push(record) },
    loggers: [
      { category: ["openclaw-toggle"], lowestLevel: "info", sinks: ["test"] },
      { category: ["logtape", "meta"], lowestLevel: "error", sinks: ["test"] },
    ],
    reset: true,
  });
  try {
    await run();
  } finally {
    await reset();
  }
  return records.map(({ message }) => message.map(String).join(""));
}
