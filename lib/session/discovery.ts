/**
 * Finding the homeserver: from a base URL as it is, or from a bare server name through .well-known.
 *
 * @module
 */

import type { Homeserver } from "../config/mod.ts";
import { ConfigError, RejectedError } from "../errors.ts";
import { type Json, object, text, texts } from "../json.ts";
import { HomeserverClient } from "./homeserver_client.ts";

/**
 * Finds the homeserver's base URL (Matrix spec v1.16, client-server API, 4.1.1, "Server discovery").
 *
 * @throws ConfigError if the server name's .well-known does not name a homeserver
 * @throws TransientError if it could not be asked
 */
export async function findHomeserver(address: Homeserver, signal: AbortSignal): Promise<string> {
  if (address.kind === "url") return address.url.replace(/\/+$/, "");
  const fallback = `https://${address.name}`;
  using requests = new HomeserverClient(fallback);
  let json: Json;
  try {
    ({ json } = await requests.send({ method: "GET", path: "/.well-known/matrix/client" }, signal));
  } catch (error) {
    if (error instanceof RejectedError && error.status === 404) return fallback;
    throw error;
  }
  const url = text(object(json["m.homeserver"])["base_url"]);
  if (url === undefined || !URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) {
    throw new ConfigError([
      `MATRIX_HOMESERVER: "${address.name}" has a .well-known/matrix/client without a homeserver's base_url; ` +
      `give the base URL itself, such as https://matrix.${address.name}`,
    ]);
  }
  return url.replace(/\/+$/, "");
}

/**
 * Asks a homeserver which versions of the specification it speaks.
 *
 * @throws TransientError if it could not be reached; RejectedError if something else answers there
 */
export async function homeserverVersions(requests: HomeserverClient, signal: AbortSignal): Promise<string[]> {
  const { json } = await requests.send({ method: "GET", path: "/_matrix/client/versions" }, signal);
  return texts(json["versions"]);
}
