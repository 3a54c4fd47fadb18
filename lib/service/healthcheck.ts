/**
 * Asks an operator that runs whether it is ready, for `--healthcheck`: Compose and scripts have no probes of their own.
 *
 * @module
 */

import type { HttpAddress } from "../config/mod.ts";
import { errorMessage, TransientError } from "../errors.ts";
import { sendHttp } from "../http.ts";
import type { HealthStatus } from "./health.ts";

/** How long an operator may take to answer, milliseconds. */
const DEADLINE_MS = 5_000;
/** Where to find a server that listens on all addresses. */
const LOOPBACK: Readonly<Record<string, readonly string[]>> = {
  "::": ["::1", "127.0.0.1"],
  "0.0.0.0": ["127.0.0.1"],
};

/** What `/readyz` says at the address that an operator listens on; that nobody answers is a status, too. */
export async function askReadiness({ hostname, port }: HttpAddress, signal: AbortSignal): Promise<HealthStatus> {
  let failure: HealthStatus = { ok: false, reason: "no address" };
  for (const host of LOOPBACK[hostname] ?? [hostname]) {
    const url = new URL(`http://${host.includes(":") ? `[${host}]` : host}:${port}/readyz`);
    try {
      const { status, body } = await sendHttp({ method: "GET", url, deadlineMs: DEADLINE_MS }, signal);
      return { ok: status === 200, reason: body.trim() || `HTTP status ${status}` };
    } catch (error) {
      if (!(error instanceof TransientError)) throw error;
      failure = { ok: false, reason: errorMessage(error) };
    }
  }
  return failure;
}
