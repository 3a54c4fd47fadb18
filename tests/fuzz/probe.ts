/**
 * Tells for how long the program's event loop was held, besides what its memory is: to be loaded before it.
 *
 * @module
 */

import "../long/memory.ts";

/** A tick as late as that is told, milliseconds. */
const TOLD_MS = 250;
const TICK_MS = 20;

let due = performance.now() + TICK_MS;
// The program is begun only when nothing is under way here, and must end in spite of it.
Deno.unrefTimer(setInterval(() => {
  const lateMs = performance.now() - due;
  if (lateMs > TOLD_MS) console.error(`held ${Math.round(lateMs)}`);
  due = performance.now() + TICK_MS;
}, TICK_MS));
