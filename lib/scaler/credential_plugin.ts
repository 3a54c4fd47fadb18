/**
 * Gets credentials from an exec plugin or an OIDC provider, through client-node. Importing this file loads client-node,
 * which costs about 80 MB of memory.
 *
 * @module
 */

import { KubeConfig, type User } from "@kubernetes/client-node";
import type { RequestOptions } from "node:https";
import { unlessAborted } from "../async.ts";
import { CredentialError } from "../errors.ts";
import { type Json, list } from "../json.ts";
import { nameOf } from "./credentials.ts";

/** Credentials that a plugin returned. */
export interface PluginCredentials {
  /** Bearer token; empty if the plugin returned none. */
  readonly token: string;
  /** Client certificate and its key, in PEM. */
  readonly client: { readonly cert: string; readonly key: string } | undefined;
}

/** An exec plugin or OIDC provider. Its credentials are cached until they expire. */
export class CredentialPlugin {
  readonly #config = new KubeConfig();
  readonly #failure: string;
  #pending: Promise<PluginCredentials> | undefined;

  private constructor(user: User, what: string) {
    this.#failure = what;
    this.#config.loadFromClusterAndUser({ name: "cluster", server: "https://localhost", skipTLSVerify: false }, user);
  }

  /** Runs an exec plugin. The caller has checked that the program may be run. */
  static exec(exec: Json & { readonly command: string }, cluster: Json): CredentialPlugin {
    const { apiVersion, provideClusterInfo } = exec;
    const spec = { interactive: false, ...provideClusterInfo === true ? { cluster } : {} };
    const info = JSON.stringify({ apiVersion, kind: "ExecCredential", spec });
    const env = [...list(exec.env), { name: "KUBERNETES_EXEC_INFO", value: info }];
    const what = `"${exec.command}" failed; run it by hand to see why`;
    return new CredentialPlugin({ name: "user", exec: { ...exec, env } }, what);
  }

  /** Asks an OpenID provider for a new token when the current one has expired. */
  static oidc(provider: Json): CredentialPlugin {
    return new CredentialPlugin(
      { name: "user", authProvider: structuredClone(provider) },
      "its auth-provider gave no token",
    );
  }

  /**
   * Returns the cached credentials, or new ones if those have expired. Concurrent callers share one request.
   *
   * @throws CredentialError if the plugin fails; the signal's reason
   */
  async read(signal: AbortSignal): Promise<PluginCredentials> {
    this.#pending ??= this.#ask().finally(() => this.#pending = undefined);
    // client-node's methods don't take a signal.
    return await unlessAborted(this.#pending, signal);
  }

  async #ask(): Promise<PluginCredentials> {
    const options: RequestOptions = {};
    try {
      await this.#config.applyToHTTPSOptions(options);
    } catch (error) {
      throw new CredentialError(`Cannot log in to the cluster: ${this.#failure} (${nameOf(error)})`, { cause: error });
    }
    const { cert, key } = options;
    const headers = new Map(Object.entries(options.headers ?? {}));
    const token = String(headers.get("Authorization") ?? "").replace(/^Bearer /, "").trim();
    const client = cert && key ? { cert: String(cert), key: String(key) } : undefined;
    if (token === "" && client === undefined) {
      throw new CredentialError(`Cannot log in to the cluster: ${this.#failure}`);
    }
    return { token, client };
  }
}
