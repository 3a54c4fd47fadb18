/**
 * Runs a real Dendrite on this machine, built from Go's module proxy. It differs from Synapse as follows, seen on
 * 0.13.8: the first upload of a cross-signing identity requires the password; transaction ids are remembered per access
 * token, for half an hour to an hour; there is no `unsigned.age`; a login with a known device id ends that device's
 * older token; leaving a room twice returns 400; on SQLite, the wildcard `*` in a filter's event types matches nothing.
 *
 * @module
 */

import { join } from "node:path";
import { answers, type Homeserver, register, registrationSecret } from "./homeserver.ts";
import { freePort } from "./network.ts";
import { Child } from "./process.ts";

/** Localpart of the user exempt from its rate limits. */
const exempt = "alice";

/** Paths of Dendrite's programs. */
export interface DendriteTools {
  /** The homeserver. */
  readonly dendrite: string;
  /** Generates its signing key. */
  readonly generateKeys: string;
}

/**
 * Starts our own Dendrite.
 *
 * @param folder empty folder for its data
 * @param rateLimits whether to enable its rate limits, except for a user `alice`
 */
export async function startDendrite(tools: DendriteTools, folder: string, rateLimits = false): Promise<Homeserver> {
  const port = freePort();
  const url = `http://127.0.0.1:${port}`;
  const logFile = join(folder, "output.log");
  const key = join(folder, "matrix_key.pem");
  const made = await new Deno.Command(tools.generateKeys, { args: ["--private-key", key] }).output();
  if (!made.success) throw new Error(`Cannot make Dendrite's key: ${new TextDecoder().decode(made.stderr)}`);
  const configuration = join(folder, "dendrite.yaml");
  await Deno.writeTextFile(configuration, JSON.stringify(configurationOf(url, folder, key, rateLimits), null, 2));
  let child: Child | undefined;
  const start = async () => {
    child = new Child({
      name: "Dendrite",
      command: [
        ...["setpriv", "--pdeathsig", "KILL", "--"] as const,
        ...[tools.dendrite, "--config", configuration, "--http-bind-address", `127.0.0.1:${port}`],
      ],
      logFile,
    });
    await child.untilReady(() => answers(`${url}/_matrix/client/versions`), 60_000);
  };
  await start();
  const passwords = new Map<string, string>();
  return {
    kind: "dendrite",
    passwords,
    url,
    serverName: "localhost",
    isOurs: true,
    requestLog: undefined,
    register: async (name, password, options) => {
      const userId = await register(url, registrationSecret, name, password, options?.admin);
      passwords.set(userId, password);
      return { userId, localpart: name };
    },
    requestsOf: () => Promise.reject(new Error("Cannot count requests: Dendrite's log does not name their users")),
    stop: async () => void await child?.stop(),
    start,
    [Symbol.asyncDispose]: async () => void await child?.stop(),
  };
}

/** JSON is valid YAML. SQLite needs one database per component. */
function configurationOf(url: string, folder: string, key: string, rateLimits: boolean): unknown {
  const database = (name: string) => ({ connection_string: `file:${join(folder, `${name}.db`)}` });
  return {
    version: 2,
    global: {
      server_name: "localhost",
      private_key: key,
      well_known_client_name: url,
      cache: { max_size_estimated: "64mb", max_age: "1h" },
      trusted_third_party_id_servers: [],
      disable_federation: true,
      presence: { enable_inbound: false, enable_outbound: false },
      report_stats: { enabled: false },
      jetstream: { storage_path: join(folder, "jetstream"), topic_prefix: "D" },
    },
    client_api: {
      registration_disabled: true,
      guests_disabled: true,
      registration_shared_secret: registrationSecret,
      rate_limiting: {
        enabled: rateLimits,
        threshold: 2,
        cooloff_ms: 2_000,
        exempt_user_ids: [`@${exempt}:localhost`],
      },
    },
    federation_api: { send_max_retries: 1, key_perspectives: [], database: database("federation") },
    media_api: { base_path: join(folder, "media"), thumbnail_sizes: [], database: database("media") },
    mscs: { mscs: [], database: database("mscs") },
    sync_api: { search: { enabled: false, index_path: join(folder, "search") }, database: database("sync") },
    user_api: { bcrypt_cost: 4, account_database: database("account"), device_database: database("device") },
    room_server: { database: database("rooms") },
    relay_api: { database: database("relay") },
    key_server: { database: database("keys") },
    logging: [{ type: "std", level: "info" }],
  };
}
