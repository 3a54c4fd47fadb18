import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { Fixture } from "./fixture.ts";
import type { OperatorOptions } from "../operator_process.ts";

/** On Linux, root can create namespaces and mounts. */
const ROOT = Deno.build.os === "linux" && Deno.uid() === 0;

/** Returns a digest of each file in the folder. */
function digests(folder: string): Record<string, string> {
  const files = Array.from(Deno.readDirSync(folder)).filter(({ isFile }) => isFile).map(({ name }) => name).sort();
  return Object.fromEntries(files.map((name) => {
    return [name, createHash("sha256").update(Deno.readFileSync(join(folder, name))).digest("hex")];
  }));
}

/** A defect of the store at startup. */
interface Row {
  readonly name: string;
  readonly spoil: (store: string) => void;
  readonly mend?: (store: string) => void;
  readonly message: RegExp;
  readonly options?: Partial<OperatorOptions>;
  /** Whether only root on Linux can produce it. */
  readonly onlyRoot?: boolean;
}

const state = (store: string) => join(store, "state.sqlite3");
const crypto = (store: string) => join(store, "crypto-1.sqlite3");

function overwrite(path: string, at: number): void {
  const bytes = Deno.readFileSync(path);
  bytes.fill(0xa5, at);
  Deno.writeFileSync(path, bytes);
}

const rows: readonly Row[] = [
  {
    name: "a folder that is read-only",
    // Root can write everywhere unless it drops this capability.
    options: { within: ROOT ? ["setpriv", "--bounding-set", "-dac_override", "--"] : [] },
    spoil: (store) => Deno.chmodSync(store, 0o500),
    mend: (store) => Deno.chmodSync(store, 0o700),
    message: /Cannot open the store .*state\.sqlite3: .*; see that the operator may write to the folder/,
  },
  {
    name: "a file system that is read-only",
    onlyRoot: true,
    spoil: () => {},
    message: /Cannot open the store .*state\.sqlite3: .*; see that the operator may write to the folder/,
  },
  {
    name: "the database truncated",
    spoil: (store) => Deno.truncateSync(state(store), 20_000),
    message: /state\.sqlite3: it is damaged .*bring a backup/,
  },
  {
    name: "the database overwritten",
    spoil: (store) => overwrite(state(store), 4_096),
    message: /state\.sqlite3: it is damaged .*bring a backup/,
  },
  {
    name: "the crypto's database truncated",
    spoil: (store) => Deno.truncateSync(crypto(store), 9_000),
    message: /crypto-1\.sqlite3: it is damaged .*bring a backup/,
  },
  {
    name: "another key in the environment",
    spoil: () => {},
    options: { environment: { CRYPTO_STORE_KEY: new Uint8Array(32).fill(7).toBase64() } },
    message: /Cannot use CRYPTO_STORE_KEY: it is not the key in .*\/key, which is in use/,
  },
  {
    name: "another key in the key file",
    spoil: (store) => Deno.writeTextFileSync(join(store, "key"), new Uint8Array(32).fill(7).toBase64()),
    message: /made with another key/,
  },
];

Deno.test("a store that cannot be used ends the operator with code 1 and its reason, and stays as it is", async (t) => {
  await using fixture = await Fixture.open();
  await using first = fixture.start();
  await first.ready;

  for (const elsewhere of [false, true]) {
    const who = elsewhere ? "under another host name" : "on this host";
    await t.step({
      name: `held by another operator, ${who}`,
      // Changing the host name requires a UTS namespace.
      ignore: elsewhere && !ROOT,
      fn: async () => {
        const within = ["unshare", "-u", "sh", "-c", 'hostname other-pod && exec "$@"', "sh"];
        await using second = fixture.start(elsewhere ? { within } : {});
        assert.equal(await second.ended, 1);
        const said = second.lines.join("\n");
        assert.match(
          said,
          new RegExp(`held by host ${Deno.hostname()}, pid ${first.pid}, since 20.*end that operator`),
        );
        assert.doesNotMatch(said, /at .*\.ts:\d+/, "a trace is no message for people");
      },
    });
  }
  assert.equal(await first.stop(), 0);

  const backup = join(fixture.store, "..", "backup");
  await copy(fixture.store, backup);
  for (const { name, spoil, mend, message, options = {}, onlyRoot = false } of rows) {
    await t.step({
      name,
      ignore: onlyRoot && !ROOT,
      fn: async () => {
        spoil(fixture.store);
        const before = digests(fixture.store);
        const within = onlyRoot ? { within: readOnly(fixture.store) } : {};
        await using operator = fixture.start({ ...options, ...within });
        const code = await operator.ended;
        mend?.(fixture.store);
        assert.equal(code, 1, operator.lines.join("\n"));
        assert.match(operator.lines.join("\n"), message);
        assert.deepEqual(digests(fixture.store), before);
        await Deno.remove(fixture.store, { recursive: true });
        await copy(backup, fixture.store);
      },
    });
  }

  await using last = fixture.start();
  await last.ready;
  assert.equal(await last.stop(), 0);
});

/** Command prefix that mounts the folder read-only. */
function readOnly(folder: string): string[] {
  const script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"';
  return ["unshare", "-m", "sh", "-c", script, folder];
}

async function copy(from: string, to: string): Promise<void> {
  await Deno.mkdir(to, { mode: 0o700 });
  for await (const { name } of Deno.readDir(from)) await Deno.copyFile(join(from, name), join(to, name));
}
