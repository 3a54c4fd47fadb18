/** What the bundle is made of. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { bundle, filesOf, withoutNames } from "../../build/bundle.ts";

Deno.test("withoutNames() removes only names from the crypto's WebAssembly", async () => {
  const crypto = import.meta.resolve("@matrix-org/matrix-sdk-crypto-wasm");
  const whole = await Deno.readFile(new URL("pkg/matrix_sdk_crypto_wasm_bg.wasm", crypto));
  const small = withoutNames(whole);
  const [before, after] = await Promise.all([WebAssembly.compile(whole), WebAssembly.compile(small)]);
  assert.equal(WebAssembly.Module.customSections(before, "name").length, 1);
  assert.equal(WebAssembly.Module.customSections(after, "name").length, 0);
  assert.ok(small.length < whole.length * 0.7, `${small.length} of ${whole.length} bytes`);
  assert.deepEqual(WebAssembly.Module.exports(after), WebAssembly.Module.exports(before));
  assert.deepEqual(WebAssembly.Module.imports(after), WebAssembly.Module.imports(before));
});

Deno.test("the bundle disposes of all that the sources dispose of", async () => {
  const root = join(import.meta.dirname ?? ".", "..", "..");
  const count = (paths: readonly string[], pattern: RegExp) =>
    paths.reduce((sum, path) => sum + (Deno.readTextFileSync(path).match(pattern)?.length ?? 0), 0);
  const library = filesOf(join(root, "lib")).map(({ name }) => join(root, "lib", name));
  const inSources = count(
    [...library, join(root, "main.ts"), join(root, "conntest.ts")],
    /^\s*(?:await )?using \w+ = /gm,
  );
  const folder = await Deno.makeTempDir({ prefix: "bundle-" });
  try {
    await bundle(folder);
    const scripts = filesOf(folder).map(({ name }) => join(folder, name)).filter((path) => path.endsWith(".js"));
    assert.equal(count(scripts, /\busing [\w$]+=/g), inSources);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
