/**
 * Asks the server given for each of the paths given, one after the other, and prints how it went, a line each.
 *
 * @module
 */

import { TransientError } from "../../lib/errors.ts";
import { HomeserverClient } from "../../lib/session/homeserver_client.ts";

const [url = "", ...paths] = Deno.args;
using requests = new HomeserverClient(url);
for (const path of paths) {
  try {
    await requests.send({ method: "GET", path, deadlineMs: path === "/frozen" ? 200 : 30_000 }, AbortSignal.any([]));
    console.log(`${path}: answered`);
  } catch (error) {
    if (!(error instanceof TransientError)) throw error;
    console.log(error.message.replace(url, ""));
  }
}
