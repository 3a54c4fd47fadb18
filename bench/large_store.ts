/**
 * Measures how long a large crypto store takes to open, and its memory: this project's operator and matrix-nio, which
 * the Python operator uses. Run as a program, it creates or opens one of our stores; each opening is a process of its
 * own.
 *
 * @module
 */

import { DeviceId, initAsync, OlmMachine, RequestType, StoreHandle, UserId } from "@matrix-org/matrix-sdk-crypto-wasm";
import { join } from "node:path";
import { openStore } from "../lib/store/mod.ts";
import type { Figure } from "./figures.ts";

const openings = 3;
const devicesOfOneUser = 10;
const sessionsOfOneRoom = 100;
const mebi = 2 ** 20;

interface Opened {
  /** From loaded code to a crypto machine that can decrypt, in milliseconds. */
  readonly ms: number;
  /** Memory of the process after that, in bytes. */
  readonly rss: number;
}

/** Creates both stores and opens them in turn. */
export async function largeStores(
  python: string,
  sessions: number,
  devices: number,
  before: string | undefined,
): Promise<Figure[]> {
  const folder = await Deno.makeTempDir({ prefix: "bench-" });
  const ours = (root: string) => [Deno.execPath(), "run", "-A", join(root, "bench", "large_store.ts")];
  const commands = {
    toggle: ours(join(import.meta.dirname ?? ".", "..")),
    ...before === undefined ? {} : { before: ours(before) },
    python: [python, join(import.meta.dirname ?? ".", "large_store.py")],
  };
  try {
    const [ms, rss]: [Record<string, number[]>, Record<string, number[]>] = [{}, {}];
    for (const [name, command] of Object.entries(commands)) {
      await run([...command, "make", join(folder, name), `${sessions}`, `${devices}`]);
    }
    for (let i = 0; i < openings; i++) {
      for (const [name, command] of Object.entries(commands)) {
        const opened: Opened = JSON.parse(await run([...command, "open", join(folder, name)]));
        (ms[name] ??= []).push(opened.ms);
        (rss[name] ??= []).push(opened.rss / mebi);
      }
    }
    const what = `a crypto store with ${sessions} Megolm sessions and ${devices} devices`;
    return [
      { what: `opening ${what}`, unit: "ms", values: ms },
      { what: `RSS of a process that has opened ${what}`, unit: "MiB", values: rss },
    ];
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function run([program = "", ...args]: readonly string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(program, { args }).output();
  if (!success) throw new Error(`Cannot run ${program} ${args.join(" ")}: ${new TextDecoder().decode(stderr)}`);
  return new TextDecoder().decode(stdout);
}

async function openMachine(store: Awaited<ReturnType<typeof openStore>>): Promise<OlmMachine> {
  await store.openCrypto();
  const handle = await StoreHandle.openWithKey("openclaw-toggle", store.cryptoKey);
  return await OlmMachine.initFromStore(new UserId("@bench:localhost"), new DeviceId("BENCH"), handle);
}

async function open(folder: string): Promise<Opened> {
  await initAsync();
  const begin = performance.now();
  await using store = await openStore({ folder, holder: { host: "bench", pid: Deno.pid } });
  const machine = await openMachine(store);
  const opened = { ms: performance.now() - begin, rss: Deno.memoryUsage().rss };
  machine.close();
  return opened;
}

async function make(folder: string, sessions: number, devices: number): Promise<void> {
  await initAsync();
  await using store = await openStore({ folder, holder: { host: "bench", pid: Deno.pid } });
  const machine = await openMachine(store);
  const keys = [];
  for (let i = 0; i < sessions; i++) keys.push(await exportedSession(i));
  await machine.importExportedRoomKeys(JSON.stringify(keys), () => undefined);

  const users = Array.from({ length: Math.ceil(devices / devicesOfOneUser) }, (_, i) => `@user-${i}:localhost`);
  await machine.updateTrackedUsers(users.map((user) => new UserId(user)));
  const listed: Record<string, Record<string, unknown>> = {};
  for (let i = 0; i < devices; i++) {
    const user = users[Math.floor(i / devicesOfOneUser)] ?? "";
    (listed[user] ??= {})[`DEVICE${i}`] = await deviceKeys(user, `DEVICE${i}`);
  }
  const query = machine.queryKeysForUsers(users.map((user) => new UserId(user)));
  const answer = JSON.stringify({ device_keys: listed, failures: {} });
  await machine.markRequestAsSent(query.id, RequestType.KeysQuery, answer);
  const counts = await machine.roomKeyCounts();
  const known = await Promise.all(users.map(async (user) => {
    using list = await machine.getUserDevices(new UserId(user));
    return list.devices().length;
  }));
  const held = [counts.total, known.reduce((sum, count) => sum + count, 0)];
  if (held[0] !== sessions || held[1] !== devices) throw new Error(`Cannot make a large store: it holds ${held}`);
  machine.close();
}

/**
 * A Megolm session in the form that clients export (Matrix spec v1.16, client-server API, 11.12.4.2, "Key exports").
 */
async function exportedSession(index: number): Promise<Record<string, unknown>> {
  const { publicKey } = await ed25519();
  // Megolm's "session export format": version, message index, ratchet, public key.
  const exported = new Uint8Array([1, 0, 0, 0, 0, ...crypto.getRandomValues(new Uint8Array(128)), ...publicKey]);
  return {
    algorithm: "m.megolm.v1.aes-sha2",
    room_id: `!room-${index % sessionsOfOneRoom}:localhost`,
    sender_key: base64(crypto.getRandomValues(new Uint8Array(32))),
    session_id: base64(publicKey),
    session_key: base64(exported),
    sender_claimed_keys: { ed25519: base64(publicKey) },
    forwarding_curve25519_key_chain: [],
  };
}

/** Self-signed device keys (Matrix spec v1.16, client-server API, 11.12.1, "DeviceKeys"). */
async function deviceKeys(user: string, device: string): Promise<Record<string, unknown>> {
  const { privateKey, publicKey } = await ed25519();
  const keys = {
    algorithms: ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
    device_id: device,
    keys: {
      [`curve25519:${device}`]: base64(crypto.getRandomValues(new Uint8Array(32))),
      [`ed25519:${device}`]: base64(publicKey),
    },
    user_id: user,
  };
  // The properties are already in canonical JSON's order.
  const signature = await crypto.subtle.sign("Ed25519", privateKey, new TextEncoder().encode(JSON.stringify(keys)));
  return { ...keys, signatures: { [user]: { [`ed25519:${device}`]: base64(new Uint8Array(signature)) } } };
}

async function ed25519(): Promise<{ privateKey: CryptoKey; publicKey: Uint8Array }> {
  const pair = await crypto.subtle.generateKey("Ed25519", true, ["sign", "verify"]);
  if (!("privateKey" in pair)) throw new TypeError("Cannot sign: Ed25519 makes pairs of keys");
  const { privateKey, publicKey } = pair;
  return { privateKey, publicKey: new Uint8Array(await crypto.subtle.exportKey("raw", publicKey)) };
}

function base64(bytes: Uint8Array): string {
  return bytes.toBase64({ omitPadding: true });
}

if (import.meta.main) {
  const [what, folder = "", sessions, devices] = Deno.args;
  if (what === "make") await make(folder, Number(sessions), Number(devices));
  else console.log(JSON.stringify(await open(folder)));
  Deno.exit();
}
