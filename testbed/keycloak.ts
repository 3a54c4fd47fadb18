/**
 * Starts and stops a real Keycloak on this machine, with the realm of `keycloak/realm.json`.
 *
 * @module
 */

import { join } from "node:path";
import realm from "./keycloak/realm.json" with { type: "json" };
import { freePort, httpJson } from "./network.ts";
import { Child } from "./process.ts";
import type { KeycloakTools } from "./setup.ts";

/** A running Keycloak. */
export interface Keycloak extends AsyncDisposable {
  /** Base URL. */
  readonly url: string;
  /** Name of its realm. */
  readonly realm: string;
  /** Public key that signs the realm's tokens (RS256), PEM. */
  readonly publicKey: string;
  /** Folder of Python modules that Synapse needs for Keycloak. */
  readonly modules: string;
  /** Password of a user in the realm. */
  password(username: string): string;
  /** Secret of a client in the realm; empty for a public client. */
  secret(clientId: string): string;
  /** Stops it. */
  stop(): Promise<void>;
  /** Restarts it with the same data on the same port. */
  start(): Promise<void>;
}

/**
 * Starts a Keycloak.
 *
 * @param tools its distribution, and Synapse's modules for it; the distribution is copied, because Keycloak writes into
 * its own folder
 * @param folder empty folder for its data
 */
export async function startKeycloak({ distribution, modules }: KeycloakTools, folder: string): Promise<Keycloak> {
  const home = join(folder, "keycloak");
  const { success } = await new Deno.Command("cp", { args: ["-r", distribution, home] }).output();
  if (!success) throw new Error(`Cannot copy Keycloak to ${home}`);
  await Deno.mkdir(join(home, "data", "import"), { recursive: true });
  await Deno.writeTextFile(join(home, "data", "import", "realm.json"), JSON.stringify(realm));
  const port = freePort();
  const url = `http://127.0.0.1:${port}`;
  let child: Child | undefined;
  const start = async () => {
    child = new Child({
      name: "Keycloak",
      command: [
        ...["setpriv", "--pdeathsig", "KILL", "--", join(home, "bin", "kc.sh"), "start-dev", "--import-realm"] as const,
        ...["--http-host=127.0.0.1", `--http-port=${port}`],
      ],
      environment: { KC_CACHE: "local", JAVA_OPTS_KC_HEAP: "-Xms64m -Xmx512m" },
      logFile: join(folder, "output.log"),
    });
    await child.untilReady(() => answers(`${url}/realms/${realm.realm}`), 180_000);
  };
  await start();
  const { public_key } = await httpJson("GET", `${url}/realms/${realm.realm}`);
  return {
    url,
    realm: realm.realm,
    modules,
    publicKey: `-----BEGIN PUBLIC KEY-----\n${public_key.replace(/.{64}/g, "$&\n")}\n-----END PUBLIC KEY-----\n`,
    password: (username) => found(realm.users, (user) => user.username === username).credentials[0]?.value ?? "",
    secret: (clientId) => found(realm.clients, (client) => client.clientId === clientId).secret ?? "",
    stop: async () => void await child?.stop(20_000),
    start,
    [Symbol.asyncDispose]: async () => void await child?.stop(20_000),
  };
}

function found<Item>(items: readonly Item[], wanted: (item: Item) => boolean): Item {
  const item = items.find(wanted);
  if (item === undefined) throw new Error("Cannot find that in keycloak/realm.json");
  return item;
}

async function answers(url: string): Promise<boolean> {
  // The connection is refused until the server listens.
  return await fetch(url, { signal: AbortSignal.timeout(5_000) }).then(async (response) => {
    await response.body?.cancel();
    return response.ok;
  }, () => false);
}
