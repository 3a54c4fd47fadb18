/**
 * Completes a start after the first sync: our device is signed if commands need that, and the targets are looked for.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import type { Target } from "../config/mod.ts";
import { errorMessage } from "../errors.ts";
import type { Health } from "./health.ts";

const log = getLogger(["openclaw-toggle", "main"]);

/** What becoming ready depends on. */
export interface ReadinessOptions {
  /** Where readiness is reported. */
  readonly health: Pick<Health, "problem" | "ready">;
  /** The login, which signs our device. */
  readonly session: {
    /** Our own user id. */
    readonly self: string;
    /** Why no command can be taken; undefined if there is no reason. */
    readonly signingProblem: string | undefined;
    /** Tries to sign our device until that succeeds. `tried` is called after each attempt. */
    untilSigned(
      recoveryKey: Uint8Array<ArrayBuffer> | undefined,
      tried: () => void,
      signal: AbortSignal,
    ): Promise<void>;
  };
  /** Reads the targets. */
  readonly scaler: {
    /** Reads a target's replica counts. */
    read(target: Target, signal: AbortSignal): Promise<{ readonly desired: number; readonly ready: number }>;
  };
  /** The configured targets. */
  readonly targets: readonly Target[];
  /** The configured recovery key, 32 bytes. */
  readonly recoveryKey: Uint8Array<ArrayBuffer> | undefined;
}

/**
 * Reports that the start is complete, once the device could be signed, or once that was tried if commands can be taken
 * without, and each target was read. Resolves when the device is signed.
 */
export async function becomeReady(
  { health, session, scaler, targets, recoveryKey }: ReadinessOptions,
  signal: AbortSignal,
): Promise<void> {
  const tried = Promise.withResolvers<void>();
  const signed = session.untilSigned(recoveryKey, () => {
    health.problem = () => session.signingProblem;
    tried.resolve();
  }, signal);
  // An unsigned device can still answer, unless keys are sent only to signed devices.
  await Promise.all([
    Promise.race([signed, tried.promise]),
    ...targets.map((target) => checkTarget(scaler, target, signal)),
  ]);
  if (health.problem() !== undefined) {
    log.error("refusing commands: {problem}", { problem: health.problem() });
    await signed;
  }
  health.ready();
  log.info("ready: {user} takes commands for {targets}", {
    user: session.self,
    targets: targets.map(({ alias }) => alias).join(", "),
  });
  await signed;
}

/** Logs a warning if a target can't be read. It isn't fatal: the target may be created later. */
async function checkTarget(scaler: ReadinessOptions["scaler"], target: Target, signal: AbortSignal): Promise<void> {
  try {
    const { desired, ready } = await scaler.read(target, signal);
    log.info("found {target}: {ready}/{desired} ready", { target: target.alias, ready, desired });
  } catch (error) {
    signal.throwIfAborted();
    log.warn("failed to read {target}, see TARGETS or DEPLOYMENT_NAME, and the Role: {reason}", {
      target: target.alias,
      reason: errorMessage(error),
    });
  }
}
