/**
 * Makes the Rust crypto panic. Preloaded into the operator. PANIC_AT selects the place. `encrypting`: omits sharing a
 * room's session, which Rust relies on; such a panic rejects no promise. `decrypting`: throws a WebAssembly trap, as
 * after a panic; only for the event named by PANIC_EVENT, if it is set.
 *
 * @module
 */

import { OlmMachine } from "@matrix-org/matrix-sdk-crypto-wasm";

/** A module whose only function traps, like Rust does after a panic. */
const TRAP = "0061736d0100000001040160000003020100070801047472617000000a05010300000b";

if (Deno.env.get("PANIC_AT") === "encrypting") {
  OlmMachine.prototype.shareRoomKey = () => Promise.resolve([]);
} else {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(Uint8Array.fromHex(TRAP)));
  const trap = exports["trap"] as OlmMachine["decryptRoomEvent"];
  const { decryptRoomEvent } = OlmMachine.prototype;
  const meant = Deno.env.get("PANIC_EVENT") ?? "";
  OlmMachine.prototype.decryptRoomEvent = function (...input) {
    return (input[0].includes(meant) ? trap : decryptRoomEvent).apply(this, input);
  };
}
