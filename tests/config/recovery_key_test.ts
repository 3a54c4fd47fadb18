import assert from "node:assert/strict";
import { decodeRecoveryKey, encodeRecoveryKey } from "../../lib/config/recovery_key.ts";

const key = Uint8Array.from({ length: 32 }, (_, index) => index * 7);

Deno.test("decodeRecoveryKey() reverses encodeRecoveryKey(), with any spacing", () => {
  for (const bytes of [key, new Uint8Array(32), new Uint8Array(32).fill(255)]) {
    const text = encodeRecoveryKey(bytes);
    assert.match(text, /^E[a-zA-Z0-9]{3}( [a-zA-Z0-9]{1,4})+$/);
    for (const given of [text, text.replaceAll(" ", ""), ` ${text}\n`]) {
      assert.deepEqual(decodeRecoveryKey(given), bytes);
    }
  }
});

Deno.test("decodeRecoveryKey() reads what other clients write", () => {
  // The private key of the Curve25519 example in RFC 7748, 6.1, as other Matrix clients write it.
  const read = decodeRecoveryKey("EsTc LW2K PGiF wKEA 3As5 g5c4 BXwk qeeJ ZJV8 Q9fu gUMN UE4d");
  const expected = Uint8Array.fromHex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
  assert.deepEqual(read, expected);
  assert.equal(encodeRecoveryKey(expected).replaceAll(" ", "").slice(0, 12), "EsTcLW2KPGiF");
});

Deno.test("decodeRecoveryKey() says what is wrong with a text, without repeating it", async (t) => {
  const text = encodeRecoveryKey(key).replaceAll(" ", "");
  const swapped = text.slice(0, -1) + (text.endsWith("2") ? "3" : "2");
  const otherPrefix = `2${text.slice(1)}`;
  const rows: [text: string, wrong: RegExp][] = [
    ["", /wrong length/],
    [text.slice(2), /wrong length/],
    [`${text}1`, /wrong length/],
    [text.replace(/.$/, "0"), /base58/],
    [`${text.slice(0, -1)}-`, /base58/],
    [swapped, /parity/],
    [otherPrefix, /wrong prefix|wrong length/],
  ];
  for (const [given, wrong] of rows) {
    await t.step(`${given.length} letters: ${wrong}`, () => {
      const read = decodeRecoveryKey(given);
      assert.ok("wrong" in read);
      assert.match(read.wrong, wrong);
    });
  }
});
