/**
 * Runs the contract suite on a real Synapse. As a program, `homeserver_real.ts URL [REGISTRATION_SHARED_SECRET]`, it
 * prints the sandbox's results beside it.
 *
 * @module
 */
import { Homeserver } from "../../sandbox/homeserver/mod.ts";
import { type ContractRow, contractTable, type HomeserverUnderTest, runHomeserverContract } from "./homeserver.ts";
import { runOnSandbox } from "./homeserver_sandbox.ts";

/**
 * A Synapse as the suite sees it; users are made with its registration shared secret (Synapse's admin API).
 *
 * @param url base URL
 */
export function synapse(url: string, serverName: string, sharedSecret: string): HomeserverUnderTest {
  const path = `${url}/_synapse/admin/v1/register`;
  const register = async (localpart: string, password: string) => {
    const { nonce } = await (await fetch(path)).json();
    const bytes = (text: string) => new TextEncoder().encode(text);
    const algorithm = { name: "HMAC", hash: "SHA-1" };
    const key = await crypto.subtle.importKey("raw", bytes(sharedSecret), algorithm, false, ["sign"]);
    const signed = bytes([nonce, localpart, password, "notadmin"].join("\0"));
    const mac = new Uint8Array(await crypto.subtle.sign("HMAC", key, signed)).toHex();
    const body = JSON.stringify({ nonce, username: localpart, password, mac, admin: false });
    const answer = await fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body });
    if (!answer.ok) throw new Error(`Cannot register ${localpart}: ${answer.status} ${await answer.text()}`);
    await answer.body?.cancel();
  };
  return { url, serverName, register };
}

/** Runs the suite on a Synapse. */
export async function runOnSynapse(url: string, serverName: string, sharedSecret: string): Promise<ContractRow[]> {
  return await runHomeserverContract("synapse", synapse(url, serverName, sharedSecret));
}

if (import.meta.main) {
  const [url = "http://127.0.0.1:8008", sharedSecret = "for-tests"] = Deno.args;
  await using homeserver = new Homeserver();
  const results = [await runOnSandbox(homeserver), await runOnSynapse(url, "localhost", sharedSecret)];
  console.log(contractTable(...results));
  const failed = results.flat().filter(({ ok }) => !ok);
  for (const row of failed) console.error(`${row.where}: ${row.case}: ${row.why}`);
  Deno.exitCode = failed.length > 0 ? 1 : 0;
}
