/**
 * Signed JSON (Matrix spec v1.16, appendices, 3).
 *
 * @module
 */
import { type JsonObject } from "./protocol.ts";

/** Verifies a signature of an object. `publicKey` and `signature` are unpadded base64. */
export async function verify(publicKey: string, object: JsonObject, signature: string): Promise<boolean> {
  const { signatures: _signatures, unsigned: _unsigned, ...signed } = object;
  try {
    const key = await crypto.subtle.importKey("raw", Uint8Array.fromBase64(publicKey), "Ed25519", false, ["verify"]);
    const bytes = new TextEncoder().encode(canonicalJson(signed));
    return await crypto.subtle.verify("Ed25519", key, Uint8Array.fromBase64(signature), bytes);
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof DOMException) return false;
    throw error;
  }
}

/** Encodes canonical JSON: sorted keys and no spaces. */
function canonicalJson(value: unknown): string {
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join()}]`;
  const entries = Object.entries(value).sort(([a], [b]) => a < b ? -1 : 1);
  return `{${entries.map(([key, item]) => `${JSON.stringify(key)}:${canonicalJson(item)}`).join()}}`;
}
