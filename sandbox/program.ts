/**
 * Command-line behaviour that demo and dev share: options, signals, exit codes and error messages.
 *
 * @module
 */

import { parseArgs } from "node:util";

/** A failure that the user can fix. Reported without a stack trace. */
export class Problem extends Error {
  override readonly name = "Problem";
}

/** A task got an argument that it doesn't take. */
export class UsageProblem extends Problem {}

/** The user or the system has asked the program to stop. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
}

/** The terminal sends Ctrl-C to us, and the task runner passes it on. Two signals within this time are the same one. */
const sameSignalMs = 500;

/**
 * Runs a program and exits with the code that it returns, 1 if it throws, or 2 for a wrong argument.
 *
 * @param main gets a signal that aborts when it must stop; what it returns or throws then still counts
 */
export async function runProgram(main: (stop: AbortSignal) => Promise<number>): Promise<never> {
  const stop = new AbortController();
  let stoppedAtMs = Infinity;
  const onSignal = () => {
    // The operator's watchdog cleans up.
    if (performance.now() - stoppedAtMs > sameSignalMs) Deno.exit(1);
    stoppedAtMs = Math.min(stoppedAtMs, performance.now());
    stop.abort(new Interrupted("Interrupted"));
  };
  const signals: Deno.Signal[] = Deno.build.os === "windows" ? ["SIGINT"] : ["SIGINT", "SIGTERM", "SIGHUP"];
  for (const name of signals) Deno.addSignalListener(name, onSignal);
  globalThis.addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    stop.abort(event.reason);
  });
  // Servers on this machine must not be reached through a proxy.
  for (const name of ["NO_PROXY", "no_proxy"]) {
    Deno.env.set(name, [Deno.env.get(name) ?? "", "127.0.0.1"].filter((part) => part !== "").join(","));
  }
  try {
    Deno.exit(await main(stop.signal));
  } catch (error) {
    console.error(error instanceof Problem || error instanceof Interrupted ? error.message : error);
    Deno.exit(error instanceof UsageProblem ? 2 : 1);
  }
}

/** Exits with 2 if this process was given an argument. */
export function takeNoArguments(): void {
  if (Deno.args.length === 0) return;
  console.error(`unknown argument "${Deno.args[0]}"; permitted: none`);
  Deno.exit(2);
}

/**
 * Parses ports given as `--name N`.
 *
 * @param names allowed names
 * @returns ports by name; 0, any free port, if not given
 * @throws Problem for any other argument
 */
export function readPorts<Name extends string>(names: readonly Name[]): Record<Name, number> {
  const permitted = names.map((name) => `--${name} N`).join(", ");
  const options = Object.fromEntries(names.map((name) => [name, { type: "string" } as const]));
  try {
    const { values } = parseArgs({ args: Deno.args, options });
    return Object.fromEntries(names.map((name) => [name, portOf(name, values[name])])) as Record<Name, number>;
  } catch (error) {
    if (error instanceof TypeError) {
      throw new UsageProblem(`${error.message.split(". ")[0]} (permitted: ${permitted || "no options"})`);
    }
    throw error;
  }
}

function portOf(name: string, given: unknown): number {
  const port = given === undefined ? 0 : Number(given);
  if (Number.isInteger(port) && port >= 0 && port < 65_536 && given !== "") return port;
  throw new UsageProblem(`Cannot use --${name} ${given}: a port is a number from 0 (any free one) to 65535`);
}

/**
 * Starts a server and reports clearly if its port is taken.
 *
 * @param what names the server in the error
 * @param option that chooses another port; empty if there is none
 * @throws Problem if the port is taken or may not be used
 */
export async function listening<T>(
  what: string,
  port: number,
  option: string,
  start: () => T | Promise<T>,
): Promise<T> {
  try {
    return await start();
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    const why = error instanceof Deno.errors.AddrInUse || code === "EADDRINUSE"
      ? "is taken"
      : error instanceof Deno.errors.PermissionDenied || code === "EACCES"
      ? "is not for you to use"
      : undefined;
    if (why === undefined) throw error;
    throw new Problem(`Cannot start ${what}: port ${port} ${why}; --${option} N chooses another, 0 any free one`);
  }
}
