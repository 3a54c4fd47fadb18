import assert from "node:assert/strict";
import { helpTable, markdownTable, readArguments, usage, VARIABLES } from "../../lib/config/mod.ts";
import { ConfigError } from "../../lib/errors.ts";

Deno.test("readArguments() says what the program is to do", () => {
  assert.equal(readArguments([]), "operate");
  assert.equal(readArguments(["--reset-identity"]), "reset-identity");
  assert.equal(readArguments(["--help", "--fresh-device"]), "help");
});

Deno.test("readArguments() says what is permitted", async (t) => {
  for (const wrong of ["--nope", "-h", "start", "--version=1"]) {
    await t.step(wrong, () => {
      assert.throws(() => readArguments([wrong]), (error) => {
        assert.ok(error instanceof ConfigError);
        assert.match(error.message, /\npermitted: .*--conntest.*, --help, or nothing$/);
        return true;
      });
    });
  }
});

Deno.test("usage() tells every option and every variable", () => {
  const text = usage("1.2.3");
  for (
    const told of ["1.2.3", "--reset-identity", "\n  --help              print this\n", "MATRIX_USER", "LOG_FORMAT"]
  ) {
    assert.ok(text.includes(told), told);
  }
});

Deno.test("markdownTable() has one row of five cells for each variable", () => {
  const [head, ruler, ...rows] = markdownTable().split("\n").map((line) =>
    line.split(" | ").map((cell) => cell.trim())
  );
  assert.equal(head?.length, 5);
  assert.equal(ruler?.length, 5);
  assert.deepEqual(
    rows.map((cells) => [cells.length, cells[0]]),
    Object.values(VARIABLES).map(({ name }) => [5, `| \`${name}\``]),
  );
});

Deno.test("markdownTable() tells default, secret files and the Python operator's names", () => {
  const rowOf = (name: string) => markdownTable().split("\n").find((line) => line.includes(`\`${name}\``)) ?? "";
  assert.match(rowOf("MAX_COMMAND_AGE"), /\| no +\| `5m` +\|/);
  assert.match(rowOf("ALLOWED_USERS"), /\| yes +\| +\|/);
  assert.match(rowOf("CRYPTO_STORE_KEY"), /a random key file in that folder.*`CRYPTO_STORE_KEY_FILE`/);
  assert.match(rowOf("LOG_LEVEL"), /`LOGURU_LEVEL`/);
});

Deno.test("helpTable() names every variable, what is permitted and what holds without it", () => {
  const help = helpTable();
  for (const { name, permitted } of Object.values(VARIABLES)) {
    assert.ok(help.includes(`  ${name}\n`), name);
    assert.ok(help.includes(permitted), permitted);
  }
  assert.match(help, /MATRIX_USER\n.*\n.*\n +required/);
  assert.match(help, /MAX_RETRIES\n.*\n.*\n +default: 20/);
});
