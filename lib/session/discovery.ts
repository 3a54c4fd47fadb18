/**
 * Finds the homeserver: a base URL is used as is; a server name is resolved through .well-known.
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
/** Redirects of .well-known to follow. */
const MAX_REDIRECTS = 5;

/**
 * Returns the homeserver's base URL (Matrix spec v1.16, client-server API, 4.1.1, "Server discovery").
 *
 * @param known base URL of the last login, used if .well-known can't be read
 * @throws ConfigError if the server name's .well-known doesn't name a homeserver
 * @throws TransientError if .well-known can't be read, or no homeserver answers at the URL in it
 */
export async function findHomeserver(
  address: Homeserver,
  signal: AbortSignal,
  known?: string | undefined,
): Promise<string> {
  if (address.kind === "url") return address.url.replace(/\/+$/, "");
  try {
    const found = await askWellKnown(address.name, signal);
    // The URL stays in use until the process ends, so a momentarily wrong .well-known must not be accepted.
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
 * Reads a server name's .well-known.
 *
 * @param origin overridden by tests
 */
export async function askWellKnown(name: string, signal: AbortSignal, origin = `https://${name}`): Promise<string> {
  const url = new URL("/.well-known/matrix/client", origin);
  const response = await getFollowing(url, signal);
  if (response.status === 404) return `https://${name}`;
  const what = `Cannot find the homeserver of ${name}: ${url.href} answers ${response.status}`;
  // An error status comes from a web server or proxy and may be temporary.
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

/** Sends a GET and follows redirects, but never from https to http. The request carries no secrets. */
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

/** Self-description of a homeserver. */
export interface AboutHomeserver {
  /** Supported versions of the specification, oldest first. */
  readonly versions: readonly string[];
  /** Name and version of the software, if the server reveals them to clients. */
  readonly software: string | undefined;
  /**
   * Milliseconds by which this machine's clock is ahead of the homeserver's. Undefined if the answer has no Date
   * header.
   */
  readonly clockAheadMs: number | undefined;
}

/**
 * Queries a homeserver's versions, software and clock.
 *
 * @throws TransientError if it can't be reached; RejectedError if it doesn't answer like a homeserver
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
