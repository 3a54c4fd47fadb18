/**
 * Reports how long the event loop was blocked, and the memory in use. Preloaded into the operator.
 *
 * @module
 */

import "../long/memory.ts";

/** Delay of a tick from which it is reported, in milliseconds. */
const TOLD_MS = 250;
const TICK_MS = 20;

let due = performance.now() + TICK_MS;
// Unref'd, because the program only starts once this module is idle, and must be able to exit.
Deno.unrefTimer(setInterval(() => {
  const lateMs = performance.now() - due;
  if (lateMs > TOLD_MS) console.error(`held ${Math.round(lateMs)}`);
  due = performance.now() + TICK_MS;
}, TICK_MS));
