/**
 * Finding the homeserver: from a base URL as it is, or from a bare server name through .well-known.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import type { Homeserver } from "../config/mod.ts";
import { ConfigError, RejectedError, TokenRefused, TransientError } from "../errors.ts";
import { type HttpResponse, redirectOf, sendHttp } from "../http.ts";
import { type Json, object, parseObject, text, texts } from "../json.ts";
import { HomeserverClient, REQUEST_DEADLINE_MS } from "./homeserver_client.ts";

const log = getLogger(["openclaw-toggle", "session"]);

/** Deadline for the homeserver's software and version, which aren't needed, in milliseconds. */
const SOFTWARE_DEADLINE_MS = 3_000;
/** Redirects of a .well-known that are followed. */
const MAX_REDIRECTS = 5;

/**
 * Finds the homeserver's base URL (Matrix spec v1.16, client-server API, 4.1.1, "Server discovery").
 *
 * @param known where the homeserver was when we last logged in there; it stays there while .well-known can't be asked
 * @throws ConfigError if the server name's .well-known does not name a homeserver
 * @throws TransientError if it could not be asked, or no homeserver answers where it says
 */
export async function findHomeserver(
  address: Homeserver,
  signal: AbortSignal,
  known?: string | undefined,
): Promise<string> {
  if (address.kind === "url") return address.url.replace(/\/+$/, "");
  try {
    const found = await askWellKnown(address.name, signal);
    // It would be kept for as long as we run, also where .well-known is wrong for a moment only.
    if (found !== known) await mustAnswer(found, signal);
    return found;
  } catch (error) {
    if (known === undefined || !(error instanceof TransientError || error instanceof ConfigError)) throw error;
    log.warning("staying with {homeserver}, the homeserver of the stored session: {reason}", {
      reason: error.message,
      homeserver: known,
    });
    return known;
  }
}

async function mustAnswer(baseUrl: string, signal: AbortSignal): Promise<void> {
  using client = new HomeserverClient(baseUrl);
  try {
    await client.send({ method: "GET", path: "/_matrix/client/versions" }, signal);
  } catch (error) {
    if (!(error instanceof RejectedError || error instanceof TokenRefused)) throw error;
    throw new TransientError(error.message, { cause: error });
  }
}

/**
 * What a server name's .well-known says.
 *
 * @param origin where that is; tests have it elsewhere
 */
export async function askWellKnown(name: string, signal: AbortSignal, origin = `https://${name}`): Promise<string> {
  const url = new URL("/.well-known/matrix/client", origin);
  const response = await getFollowing(url, signal);
  if (response.status === 404) return `https://${name}`;
  const what = `Cannot find the homeserver of ${name}: ${url.href} answers ${response.status}`;
  // Whatever is refused here is refused by a web server or a proxy, of which nobody says that it is for good.
  if (response.status !== 200) throw new TransientError(what);
  const json = parseObject(response.body);
  if (json === undefined) throw new TransientError(`${what}, which is not JSON`);
  return baseUrlIn(json, name);
}

function baseUrlIn(json: Json, name: string): string {
  const url = URL.parse(text(object(json["m.homeserver"])["base_url"]) ?? "");
  if (url === null || !/^https?:$/.test(url.protocol) || url.username + url.password !== "" || /[?#]/.test(url.href)) {
    throw new ConfigError([
      `MATRIX_HOMESERVER: .well-known/matrix/client has no base_url of a homeserver (got "${name}"); ` +
      `use the base URL itself, such as https://matrix.${name}`,
    ]);
  }
  return url.href.replace(/\/+$/, "");
}

/** A GET that follows redirects, never from https to http. Nothing secret is sent. */
async function getFollowing(first: URL, signal: AbortSignal): Promise<HttpResponse> {
  let url = first;
  for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects += 1) {
    const response = await sendHttp({ method: "GET", url, deadlineMs: REQUEST_DEADLINE_MS }, signal);
    const target = redirectOf(response, url);
    if (target === undefined) return response;
    if (url.protocol === "https:" && target.protocol !== "https:") {
      throw new TransientError(`Cannot GET ${first.href}: it redirects to ${target.origin}, which is without TLS`);
    }
    url = target;
  }
  throw new TransientError(`Cannot GET ${first.href}: it redirects more than ${MAX_REDIRECTS} times`);
}

/** What a homeserver says of itself. */
export interface AboutHomeserver {
  /** Versions of the specification that it speaks, oldest first. */
  readonly versions: readonly string[];
  /** Its software and that one's version, where it tells that to clients, too. */
  readonly software: string | undefined;
  /** How far this machine's clock is ahead of the homeserver's, milliseconds; undefined if its answer has no date. */
  readonly clockAheadMs: number | undefined;
}

/**
 * Asks a homeserver about itself.
 *
 * @throws TransientError if it could not be reached; RejectedError if something else answers there
 */
export async function aboutHomeserver(client: HomeserverClient, signal: AbortSignal): Promise<AboutHomeserver> {
  const { json, headers } = await client.send({ method: "GET", path: "/_matrix/client/versions" }, signal);
  const url = new URL(`${client.baseUrl}/_matrix/federation/v1/version`);
  // An endpoint for other homeservers (Matrix spec v1.16, server-server API, 3.2). Many proxies hide it from clients.
  const answer = await client.exchange({ method: "GET", url, deadlineMs: SOFTWARE_DEADLINE_MS }, signal).catch(
    (error) => {
      if (!(error instanceof TransientError)) throw error;
      return undefined;
    },
  );
  const server = object(answer?.status === 200 ? parseObject(answer.body)?.["server"] : undefined);
  const [name, version] = [text(server["name"]), text(server["version"])];
  const dateMs = Date.parse(headers.get("date") ?? "");
  return {
    versions: texts(json["versions"]),
    software: name === undefined ? undefined : `${name} ${version ?? ""}`.trim(),
    clockAheadMs: Number.isNaN(dateMs) ? undefined : Date.now() - dateMs,
  };
}
