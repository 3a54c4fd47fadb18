/**
 * Installs, starts and stops the Python operator from PyPI, in a pod's environment, as its users run it.
 *
 * @module
 */

import { join } from "node:path";
import { containment } from "./pod.ts";
import { Child } from "./process.ts";
import { pythonEnvironment } from "./setup.ts";

const requirementsFolder = join(import.meta.dirname ?? ".", "python_operator");

/** Last line that it logs before it takes commands. */
const readyLine = "Listening for commands";

/** Options for running it. */
export interface PythonOperatorOptions {
  /** Interpreter returned by {@linkcode installPythonOperator}. */
  readonly python: string;
  /** Its environment variables. Of our own it gets only `PATH`. */
  readonly environment: Readonly<Record<string, string>>;
  /** ServiceAccount folder with `token`, `ca.crt` and `namespace`. It accepts no other credentials. */
  readonly serviceAccountFolder: string;
  /** Base URL of the Kubernetes API. */
  readonly kubernetes: string;
  /** File that its log is appended to. */
  readonly logFile: string;
}

/**
 * Installs it, if necessary.
 *
 * @param version names the file with its pinned packages, `python_operator/<version>.txt`
 * @returns interpreter of the Python environment that it is installed in
 */
export async function installPythonOperator(version = "0.0.19"): Promise<string> {
  // It declares Python 3.14, but runs on every version that its pinned packages support.
  return await pythonEnvironment(join(requirementsFolder, `${version}.txt`), [
    "--prefer-binary",
    "--ignore-requires-python",
  ]);
}

/** A running Python operator. */
export class PythonOperator implements AsyncDisposable {
  /** Its process, after the surrounding shell has exec'd it. */
  readonly child: Child;
  readonly #logFile: string;
  readonly #logBegin: number;

  /** Starts it without waiting. */
  constructor({ python, environment, serviceAccountFolder, kubernetes, logFile }: PythonOperatorOptions) {
    const { hostname, port } = new URL(kubernetes);
    this.#logFile = logFile;
    this.#logBegin = readLog(logFile).length;
    this.child = new Child({
      name: "the Python operator",
      command: [...containment(serviceAccountFolder), python, "-m", "openclaw_k8s_toggle_operator"],
      environment: {
        PATH: Deno.env.get("PATH") ?? "",
        KUBERNETES_SERVICE_HOST: hostname,
        KUBERNETES_SERVICE_PORT: port || "443",
        ...environment,
      },
      clearEnvironment: true,
      logFile,
    });
  }

  /** Its log since the start. */
  log(): string {
    return readLog(this.#logFile).slice(this.#logBegin);
  }

  /** Waits until it takes commands, for a minute at most. */
  async untilReady(): Promise<void> {
    await this.child.untilReady(() => Promise.resolve(this.log().includes(readyLine)), 60_000);
  }

  /** Terminates it, and kills it after five seconds. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.child.stop();
  }
}

function readLog(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  }
}
