/**
 * Has the Rust crypto panic, for real: to be loaded before the program. PANIC_AT says where. `encrypting`: Rust takes for
 * granted that a room's session was shared before, and that is left out; such a panic fails no promise. `decrypting`: a trap
 * of WebAssembly, as follows a panic, is thrown; only for the event that PANIC_EVENT names, if it names one.
 *
 * @module
 */

import { OlmMachine } from "@matrix-org/matrix-sdk-crypto-wasm";

/** A module whose only function traps, as Rust does after it has panicked. */
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
