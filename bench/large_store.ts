/**
 * Measures how long a large crypto store takes to open, and its memory: this project's operator and matrix-nio, which
 * the Python operator uses. Run as a program, it creates or opens one of our stores; each opening is a process of its
 * own.
 *
 * @module
 */

import { DeviceId, initAsync, OlmMachine, RequestType, StoreHandle, UserId } from "@matrix-org/matrix-sdk-crypto-wasm";
import { join } from "node:path";
import { runtimeFlags } from "../build/compile.ts";
import { openStore } from "../lib/store/mod.ts";
import { ControlGroup } from "./control_group.ts";
import type { Figure } from "./figures.ts";
import { usageOf } from "./usage.ts";

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

/** The same, with what the bench itself has read of the process. */
interface Observed extends Opened {
  /** The working set; undefined if this machine has no control groups for memory. */
  readonly workingSet: number | undefined;
  /** Memory without pages of files; undefined if the process has ended too early. */
  readonly withoutFiles: number | undefined;
}

/** Creates both stores and opens them in turn. */
export async function largeStores(
  python: string,
  sessions: number,
  devices: number,
  before: string | undefined,
): Promise<Figure[]> {
  const folder = await Deno.makeTempDir({ prefix: "bench-" });
  const ours = (root: string) => [Deno.execPath(), "run", "-A", ...runtimeFlags, join(root, "bench", "large_store.ts")];
  const commands = {
    toggle: ours(join(import.meta.dirname ?? ".", "..")),
    ...before === undefined ? {} : { before: ours(before) },
    python: [python, join(import.meta.dirname ?? ".", "large_store.py")],
  };
  try {
    type Values = Record<string, number[]>;
    const [ms, rss, workingSet, withoutFiles]: [Values, Values, Values, Values] = [{}, {}, {}, {}];
    for (const [name, command] of Object.entries(commands)) {
      await run([...command, "make", join(folder, name), `${sessions}`, `${devices}`]);
    }
    for (let i = 0; i < openings; i++) {
      for (const [name, command] of Object.entries(commands)) {
        const opened = await observe([...command, "open", join(folder, name)]);
        (ms[name] ??= []).push(opened.ms);
        (rss[name] ??= []).push(opened.rss / mebi);
        if (opened.workingSet !== undefined) (workingSet[name] ??= []).push(opened.workingSet / mebi);
        if (opened.withoutFiles !== undefined) (withoutFiles[name] ??= []).push(opened.withoutFiles / mebi);
      }
    }
    const what = `a crypto store with ${sessions} Megolm sessions and ${devices} devices`;
    return [
      { what: `opening ${what}`, unit: "ms", values: ms },
      { what: `RSS of a process that has opened ${what}`, unit: "MiB", values: rss },
      ...Object.keys(workingSet).length === 0
        ? []
        : [{ what: "its working set", unit: "MiB", values: workingSet } as const],
      { what: "its working set without pages of files", unit: "MiB", values: withoutFiles },
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

/** Has a program open its store, and looks at the process before it ends. */
async function observe(command: readonly string[]): Promise<Observed> {
  await using group = await ControlGroup.create("bench-store", "memory");
  const [program = "", ...args] = [...group?.prefix ?? [], ...command];
  const process = new Deno.Command(program, { args, stdin: "piped", stdout: "piped", stderr: "piped" }).spawn();
  const errors = new Response(process.stderr).text();
  const reader = process.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let line = "";
  while (!line.includes("\n")) {
    const { value, done } = await reader.read();
    if (done) throw new Error(`Cannot run ${command.join(" ")}: ${await errors}`);
    line += value;
  }
  const opened: Opened = JSON.parse(line);
  // An earlier version of this program has ended by now, and has no usage any more.
  const usage = await usageOf(process.pid).catch((error) => {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  });
  const workingSet = await group?.workingSet();
  await process.stdin.close();
  await reader.cancel();
  await process.status;
  await errors;
  return { ...opened, workingSet, withoutFiles: usage?.withoutFiles || undefined };
}

async function openMachine(store: Awaited<ReturnType<typeof openStore>>): Promise<OlmMachine> {
  await store.openCrypto();
  const handle = await StoreHandle.openWithKey("openclaw-toggle", store.cryptoKey);
  return await OlmMachine.initFromStore(new UserId("@bench:localhost"), new DeviceId("BENCH"), handle);
}

async function open(folder: string): Promise<void> {
  await initAsync();
  const begin = performance.now();
  await using store = await openStore({ folder, holder: { host: "bench", pid: Deno.pid } });
  const machine = await openMachine(store);
  const opened: Opened = { ms: performance.now() - begin, rss: Deno.memoryUsage().rss };
  console.log(JSON.stringify(opened));
  // The bench looks at this process until it ends our input.
  await Array.fromAsync(Deno.stdin.readable);
  machine.close();
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
  else await open(folder);
  Deno.exit();
}
