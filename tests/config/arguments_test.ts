import assert from "node:assert/strict";
import { readArguments, usage } from "../../lib/config/mod.ts";
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
