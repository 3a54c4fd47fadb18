/**
 * Recovery keys in text form: 32 bytes in base58, with a prefix and a parity byte (Matrix spec v1.16, client-server
 * API, appendix "Cryptographic key representation").
 *
 * @module
 */

const ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const PREFIX = [0x8b, 0x01] as const;
const KEY_BYTES = 32;

/**
 * Decodes a recovery key, ignoring spaces.
 *
 * @returns the 32 bytes, or what is wrong with the text, without repeating it
 */
export function decodeRecoveryKey(text: string): Uint8Array<ArrayBuffer> | { readonly wrong: string } {
  let number = 0n;
  for (const character of text.replace(/\s/g, "")) {
    const digit = ALPHABET.indexOf(character);
    if (digit < 0) return { wrong: "it has a character that base58 lacks" };
    number = number * 58n + BigInt(digit);
  }
  const hex = number.toString(16);
  const bytes = Uint8Array.fromHex(hex.padStart(hex.length + hex.length % 2, "0"));
  if (bytes.length !== PREFIX.length + KEY_BYTES + 1) return { wrong: "it has the wrong length" };
  if (bytes[0] !== PREFIX[0] || bytes[1] !== PREFIX[1]) return { wrong: "it has the wrong prefix" };
  if (bytes.reduce((parity, byte) => parity ^ byte, 0) !== 0) return { wrong: "it is mistyped (wrong parity)" };
  return bytes.slice(PREFIX.length, -1);
}

/** Encodes 32 bytes as a recovery key, in groups of four characters. */
export function encodeRecoveryKey(key: Uint8Array): string {
  const bytes = [...PREFIX, ...key];
  const parity = bytes.reduce((all, byte) => all ^ byte, 0);
  let number = BigInt("0x" + Uint8Array.from([...bytes, parity]).toHex());
  let text = "";
  for (; number > 0n; number /= 58n) text = ALPHABET.charAt(Number(number % 58n)) + text;
  return text.replace(/.{4}(?=.)/g, "$& ");
}
