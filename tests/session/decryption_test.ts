import assert from "node:assert/strict";
import { ciphertextKey } from "../../lib/session/decryption.ts";

/** A Megolm message's beginning: version, tag, varint. */
function ciphertext(...bytes: number[]): string {
  return new Uint8Array([...bytes, 0x12, 0x20, ...new Array<number>(40).fill(7)]).toBase64({ omitPadding: true });
}

Deno.test("ciphertextKey() reads the message index", async (t) => {
  const rows: [name: string, bytes: number[], index: number | undefined][] = [
    ["of one byte", [3, 0x08, 0], 0],
    ["of one byte, the largest", [3, 0x08, 0x7f], 127],
    ["of two bytes", [3, 0x08, 0x80, 0x01], 128],
    ["of five bytes, the largest", [3, 0x08, 0xff, 0xff, 0xff, 0xff, 0x0f], 4_294_967_295],
    ["of six bytes: no 32-bit number", [3, 0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], undefined],
    ["of another version", [4, 0x08, 1], undefined],
    ["behind another tag", [3, 0x10, 1], undefined],
  ];
  for (const [name, bytes, index] of rows) {
    await t.step(name, () => {
      const key = ciphertextKey({ session_id: "s", ciphertext: ciphertext(...bytes) });
      assert.deepEqual(key, index === undefined ? undefined : { sessionId: "s", messageIndex: index });
    });
  }
});

Deno.test("ciphertextKey() is undefined for anything but a Megolm message", async (t) => {
  const rows: [name: string, content: unknown][] = [
    ["nothing", undefined],
    ["no session id", { ciphertext: ciphertext(3, 8, 1) }],
    ["an Olm message", { session_id: "s", ciphertext: { key: { type: 0, body: "x" } } }],
    ["not base64", { session_id: "s", ciphertext: "*** no ***" }],
    ["too short", { session_id: "s", ciphertext: "Aw" }],
  ];
  for (const [name, content] of rows) await t.step(name, () => assert.equal(ciphertextKey(content), undefined));
});
