import assert from "node:assert/strict";
import { getLogger } from "@logtape/logtape";
import { Secret } from "../../lib/config/mod.ts";
import { type LoggingOptions, startLogging } from "../../lib/service/mod.ts";

/** Logs what `act` says, and hands back the lines. */
async function logged(act: () => void, options: Partial<LoggingOptions> = {}): Promise<string[]> {
  const lines: string[] = [];
  const write = (line: string) => lines.push(line);
  await using _ = await startLogging({ level: "debug", format: "text", colour: false, write, ...options });
  act();
  return lines;
}

const log = getLogger(["openclaw-toggle", "session"]);

Deno.test("startLogging() writes short text", async () => {
  const lines = await logged(() => log.warn("Joined {room} with {count} members", { room: "!r:h", count: 3 }));
  assert.equal(lines.length, 1);
  assert.match(lines[0] ?? "", /^\d\d:\d\d:\d\d\.\d{3} warning session: Joined !r:h with 3 members$/);
});

Deno.test("startLogging() colours text where asked to", async () => {
  const [line = ""] = await logged(() => log.info("Ready"), { colour: true });
  // deno-lint-ignore no-control-regex -- colours are control characters
  assert.match(line, /\x1b\[\d+m.*Ready/);
});

Deno.test("startLogging() writes one JSON object a line, with properties and errors", async () => {
  const error = new Error("first\nsecond");
  const lines = await logged(() => log.error("Cannot sync {room}", { room: "!r:h", error }), { format: "json" });
  assert.equal(lines.length, 1);
  assert.doesNotMatch(lines[0] ?? "", /\n/);
  const { level, message, logger, properties } = JSON.parse(lines[0] ?? "");
  assert.deepEqual([level, message, logger], ["ERROR", "Cannot sync !r:h", "openclaw-toggle.session"]);
  assert.equal(properties.room, "!r:h");
  assert.equal(properties.error.message, "first\nsecond");
});

Deno.test("startLogging() omits lines below the level", async () => {
  const act = () => {
    log.debug("a");
    log.info("b");
    log.warn("c");
    log.error("d");
  };
  const count = async (level: LoggingOptions["level"]) => (await logged(act, { level })).length;
  assert.deepEqual(
    [await count("debug"), await count("info"), await count("warning"), await count("error")],
    [4, 3, 2, 1],
  );
});

Deno.test("startLogging() shows a secret as [redacted], in the message and beside it", async (t) => {
  const secret = new Secret("hunter2");
  const rows: [form: LoggingOptions["format"], colour: boolean][] = [["text", false], ["text", true], ["json", false]];
  for (const [format, colour] of rows) {
    await t.step(`${format}${colour ? " in colour" : ""}`, async () => {
      const act = () => log.info("Logging in with {secret}", { secret, nested: { list: [secret] } });
      const [line = ""] = await logged(act, { format, colour });
      assert.match(line, /Logging in with .*\[redacted\]/);
      assert.doesNotMatch(line, /hunter2/);
    });
  }
});

Deno.test("startLogging() lets no value break or colour a line", async () => {
  const forged = "x\n12:00:00.000 info operator: forged \x1b[31m";
  const [line = ""] = await logged(() => log.info("Ignored {sender}", { sender: forged }));
  // deno-lint-ignore no-control-regex -- this is what must not come through
  assert.doesNotMatch(line, /[\n\x1b]/);
});

Deno.test("startLogging() is silent once disposed of", async () => {
  const lines = await logged(() => {});
  log.error("after the end");
  assert.deepEqual(lines, []);
});
