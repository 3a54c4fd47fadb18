/**
 * Has the Rust crypto take its time over what a sync brings, and tells on standard error when it is done, and when it is
 * closed: to be loaded before the program.
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
