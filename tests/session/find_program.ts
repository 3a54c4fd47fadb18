/**
 * Finds the homeserver of a server name, and prints what came of it.
 *
 * @module
 */

import { TransientError } from "../../lib/errors.ts";
import { findHomeserver } from "../../lib/session/discovery.ts";

const [name = "", known] = Deno.args;
try {
  console.log(await findHomeserver({ kind: "name", name }, AbortSignal.any([]), known));
} catch (error) {
  if (!(error instanceof TransientError)) throw error;
  console.log(error.message);
}
