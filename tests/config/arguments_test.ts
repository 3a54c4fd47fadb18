import assert from "node:assert/strict";
import { GROUPS, helpTable, markdownTables, readArguments, usage, VARIABLES } from "../../lib/config/mod.ts";
import { ConfigError } from "../../lib/errors.ts";

Deno.test("readArguments() says what the program is to do", () => {
  assert.equal(readArguments([]), "operate");
  assert.equal(readArguments(["--reset-identity"]), "reset-identity");
  assert.equal(readArguments(["--help", "--fresh-device"]), "help");
  assert.equal(readArguments(["-h"]), "help");
});

Deno.test("readArguments() names an unknown argument, and where to find help", async (t) => {
  for (const wrong of ["--nope", "-x", "start", "--version=1", "--", ""]) {
    await t.step(wrong, () => {
      assert.throws(() => readArguments(["--help", wrong]), (error) => {
        assert.ok(error instanceof ConfigError);
        assert.deepEqual(error.problems, [`unknown argument "${wrong}"; see --help`]);
        return true;
      });
    });
  }
});

Deno.test("GROUPS has every variable once", () => {
  assert.deepEqual(Object.values(GROUPS).flat().toSorted(), Object.keys(VARIABLES).toSorted());
});

Deno.test("usage() lists every option and every variable, in 100 columns at most", () => {
  const text = usage("1.2.3");
  for (const told of ["1.2.3", "--reset-identity", "  -h, --help  ", ...Object.keys(GROUPS)]) {
    assert.ok(text.includes(told), told);
  }
  for (const { name } of Object.values(VARIABLES)) assert.match(text, new RegExp(`^  ${name}  `, "m"));
  assert.deepEqual(text.split("\n").filter((line) => line.length > 100 || /\s$/.test(line)), []);
});

Deno.test("markdownTables() has one row of three cells for each variable, and none too wide for its page", () => {
  const rows = markdownTables().split("\n").filter((line) => line.startsWith("| `")).map((line) =>
    line.slice(2, -2).split(" | ").map((cell) => cell.trim())
  );
  assert.deepEqual(
    rows.map((
      [name = "", unset = "", meaning, ...more],
    ) => [name, unset.split(" ").every((word) => word.length <= 50), meaning !== undefined, more]),
    Object.values(GROUPS).flat().map((key) => [`\`${VARIABLES[key].name}\``, true, true, []]),
  );
});

Deno.test("markdownTables() shows defaults, secret files and the Python operator's names", () => {
  const rowOf = (name: string) => markdownTables().split("\n").find((line) => line.startsWith(`| \`${name}\``)) ?? "";
  assert.match(rowOf("MAX_COMMAND_AGE"), /\| `5m` +\|/);
  assert.match(rowOf("ALLOWED_USERS"), /\| \*\*required\*\* +\|/);
  assert.match(rowOf("KEYCLOAK_URL"), /\| required for jwt; otherwise where the homeserver redirects +\|/);
  assert.match(rowOf("CRYPTO_STORE_KEY"), /a random key, kept in that folder.*`CRYPTO_STORE_KEY_FILE`/);
  assert.match(rowOf("LOG_LEVEL"), /`LOGURU_LEVEL`/);
});

Deno.test("helpTable() says what is allowed and what holds without it", () => {
  const help = helpTable().replaceAll(/\n +(?! )(?![A-Z]{2,}[A-Z_]+ )/g, " ");
  for (const { name, permitted } of Object.values(VARIABLES)) {
    assert.ok(permitted === "any text" || help.includes(`llowed: ${permitted}`), `${name}: ${permitted}`);
  }
  assert.match(help, /MATRIX_USER .* Required; allowed: a localpart/);
  assert.match(help, /MAX_RETRIES .* Default: 20; allowed: /);
});
