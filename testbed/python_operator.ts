/**
 * The Python operator, from PyPI, as its users run it: in a pod. Knows how to install, start and stop it, nothing of
 * what it is compared with.
 *
 * @module
 */

import { join } from "node:path";
import { containment } from "./pod.ts";
import { Child } from "./process.ts";
import { pythonEnvironment } from "./setup.ts";

const requirementsFolder = join(import.meta.dirname ?? ".", "python_operator");

/** Its last word before it takes commands. */
const readyLine = "Listening for commands";

/** How to run it. */
export interface PythonOperatorOptions {
  /** Interpreter that {@linkcode installPythonOperator} has returned. */
  readonly python: string;
  /** Its variables; nothing of our own environment reaches it but `PATH`. */
  readonly environment: Readonly<Record<string, string>>;
  /** Folder of a ServiceAccount with `token`, `ca.crt` and `namespace`: it takes no other credentials. */
  readonly serviceAccountFolder: string;
  /** Base URL of the Kubernetes API. */
  readonly kubernetes: string;
  /** File that its log is added to. */
  readonly logFile: string;
}

/**
 * Installs it, if it isn't there yet.
 *
 * @param version names the file with its pinned packages, `python_operator/<version>.txt`
 * @returns interpreter of the Python environment that it is installed in
 */
export async function installPythonOperator(version = "0.0.19"): Promise<string> {
  // It asks for Python 3.14, and runs on the versions that its pinned packages support.
  return await pythonEnvironment(join(requirementsFolder, `${version}.txt`), [
    "--prefer-binary",
    "--ignore-requires-python",
  ]);
}

/** A Python operator that was started. */
export class PythonOperator implements AsyncDisposable {
  /** Its process, once the shell around it has made place. */
  readonly child: Child;
  readonly #logFile: string;
  readonly #logBegin: number;

  /** Starts it and doesn't wait. */
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

  /** What it has logged since it was started. */
  log(): string {
    return readLog(this.#logFile).slice(this.#logBegin);
  }

  /** Waits until it takes commands, at most a minute. */
  async untilReady(): Promise<void> {
    await this.child.untilReady(() => Promise.resolve(this.log().includes(readyLine)), 60_000);
  }

  /** Asks it to end, and makes it end if it has not done so in five seconds. */
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
