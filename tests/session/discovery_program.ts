/**
 * Asks the .well-known of a server name at the origin given, and prints what came of it.
 *
 * @module
 */

import { TransientError } from "../../lib/errors.ts";
import { askWellKnown } from "../../lib/session/discovery.ts";

const [origin] = Deno.args;
try {
  console.log(await askWellKnown("example.org", AbortSignal.any([]), origin));
} catch (error) {
  if (!(error instanceof TransientError)) throw error;
  console.log(error.message);
}
