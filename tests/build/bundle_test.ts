/** What the bundle is made of. */

import assert from "node:assert/strict";
import { withoutNames } from "../../build/bundle.ts";

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
