/**
 * Slows down how the Rust crypto receives sync changes, and reports on standard error when that is done and when the
 * crypto is closed. Preloaded into the operator.
 *
 * @module
 */

import { OlmMachine } from "@matrix-org/matrix-sdk-crypto-wasm";

const { receiveSyncChanges, close } = OlmMachine.prototype;
let isSlow = false;
Deno.addSignalListener("SIGUSR2", () => isSlow = true);

OlmMachine.prototype.receiveSyncChanges = async function (...args) {
  if (!isSlow) return await receiveSyncChanges.apply(this, args);
  console.error("receiving");
  await new Promise((resolve) => setTimeout(resolve, 300));
  const received = await receiveSyncChanges.apply(this, args);
  console.error("received");
  return received;
};

OlmMachine.prototype.close = function (): void {
  console.error("closed");
  close.call(this);
};
