/**
 * Credentials inside a pod: the ServiceAccount's token and the cluster's CA certificate. The kubelet replaces both
 * files long before they expire.
 *
 * @module
 */

import { ConfigError, CredentialError } from "../errors.ts";
import { type CredentialSource, nameOf } from "./credentials.ts";

/**
 * Returns the credentials of the pod that we run in.
 *
 * @param folder holds `token` and `ca.crt`
 */
export function inClusterSource(host: string, port: string, folder: string): CredentialSource {
  const server = `https://${host.includes(":") ? `[${host}]` : host}:${port}`;
  return {
    context: "in-cluster",
    // deno-lint-ignore require-await -- other sources wait for their credentials
    read: async (signal) => {
      signal.throwIfAborted();
      const token = readToken(`${folder}/token`);
      return {
        server,
        headers: [["authorization", `Bearer ${token}`]],
        tls: { caCerts: [readAuthority(`${folder}/ca.crt`)] },
      };
    },
    invalidate: () => {},
  };
}

function readToken(path: string): string {
  try {
    return Deno.readTextFileSync(path).trim();
  } catch (error) {
    throw new CredentialError(`Cannot read the ServiceAccount's token ${path}: ${nameOf(error)}`);
  }
}

function readAuthority(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    throw new ConfigError([`Can't read the cluster's certificate authority ${path}: ${nameOf(error)}`]);
  }
}
