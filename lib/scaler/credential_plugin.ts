/**
 * Logs in by an exec plugin or by OIDC, as client-node does it. Importing this file loads client-node, which costs some 80
 * MB of memory.
 *
 * @module
 */

import { KubeConfig, type User } from "@kubernetes/client-node";
import type { RequestOptions } from "node:https";
import { CredentialError } from "../errors.ts";
import { type Json, list } from "../json.ts";
import { nameOf } from "./credentials.ts";

/** What a plugin gives. */
export interface PluginCredentials {
  /** Bearer token; empty if it gave none. */
  readonly token: string;
  /** Client certificate and its key. */
  readonly client: { readonly cert: string; readonly key: string } | undefined;
}

/** A way to log in that has to be gone through. What it gave is kept until it expires. */
export class CredentialPlugin {
  readonly #config = new KubeConfig();
  readonly #what: string;
  #under: Promise<PluginCredentials> | undefined;

  private constructor(user: User, what: string) {
    this.#what = what;
    this.#config.loadFromClusterAndUser({ name: "cluster", server: "https://localhost", skipTLSVerify: false }, user);
  }

  /** Runs a program; whether that is permitted has been seen to. */
  static exec(exec: Json & { readonly command: string }, cluster: Json): CredentialPlugin {
    const { apiVersion, provideClusterInfo } = exec;
    const spec = { interactive: false, ...provideClusterInfo === true ? { cluster } : {} };
    const info = JSON.stringify({ apiVersion, kind: "ExecCredential", spec });
    const env = [...list(exec.env), { name: "KUBERNETES_EXEC_INFO", value: info }];
    const what = `"${exec.command}" failed; run it by hand to see why`;
    return new CredentialPlugin({ name: "user", exec: { ...exec, env } }, what);
  }

  /** Asks an OpenID provider for a new token when the one that is there has expired. */
  static oidc(provider: Json): CredentialPlugin {
    return new CredentialPlugin(
      { name: "user", authProvider: structuredClone(provider) },
      "its auth-provider gave no token",
    );
  }

  /**
   * What the plugin gives, or gave if that has not expired. Whoever asks while it is asked gets the same answer.
   *
   * @throws CredentialError if it fails; the signal's reason
   */
  async read(signal: AbortSignal): Promise<PluginCredentials> {
    this.#under ??= this.#ask().finally(() => this.#under = undefined);
    // client-node's methods take no signal.
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    const abort = (): void => reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    if (signal.aborted) abort();
    try {
      return await Promise.race([this.#under, aborted]);
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  async #ask(): Promise<PluginCredentials> {
    const options: RequestOptions = {};
    try {
      await this.#config.applyToHTTPSOptions(options);
    } catch (error) {
      throw new CredentialError(`Cannot log in to the cluster: ${this.#what} (${nameOf(error)})`, { cause: error });
    }
    const { cert, key } = options;
    const headers = new Map(Object.entries(options.headers ?? {}));
    const token = String(headers.get("Authorization") ?? "").replace(/^Bearer /, "").trim();
    const client = cert && key ? { cert: String(cert), key: String(key) } : undefined;
    if (token === "" && client === undefined) throw new CredentialError(`Cannot log in to the cluster: ${this.#what}`);
    return { token, client };
  }
}
