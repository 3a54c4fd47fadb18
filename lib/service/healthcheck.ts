/**
 * Asks a running operator whether it is ready, for `--healthcheck`. Compose and scripts have no HTTP probes.
 *
 * @module
 */

import type { HttpAddress } from "../config/mod.ts";
import { errorMessage, TransientError } from "../errors.ts";
import { sendHttp } from "../http.ts";
import type { HealthStatus } from "./health.ts";

/** Deadline for the response, in milliseconds. */
const DEADLINE_MS = 5_000;
/** Loopback addresses that reach a server listening on all addresses. */
const LOOPBACK: Readonly<Record<string, readonly string[]>> = {
  "::": ["::1", "127.0.0.1"],
  "0.0.0.0": ["127.0.0.1"],
};

/** Requests `/readyz` at the operator's listen address. If nothing answers, that is reported as a status too. */
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
