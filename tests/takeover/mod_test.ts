import assert from "node:assert/strict";
import { createHmac, createPrivateKey, createPublicKey } from "node:crypto";
import { DatabaseSync } from "node:sqlite";
import { configure, type LogRecord, reset } from "@logtape/logtape";
import {
  DecryptionSettings,
  DeviceId,
  DeviceLists,
  initAsync,
  KeysUploadRequest,
  OlmMachine,
  RoomId,
  ShieldStateCode,
  StoreHandle,
  TrustRequirement,
  UserId,
} from "@matrix-org/matrix-sdk-crypto-wasm";
import type { Json } from "../../lib/session/mod.ts";
import { CRYPTO_NAME, type Store } from "../../lib/store/mod.ts";
import { findOldStore, retireOldStore, setOldStoreAside, takeOver } from "../../lib/takeover/mod.ts";
import {
  DATABASE,
  DEVICE,
  type Kind,
  kinds,
  leaveOldStore,
  OldFolder,
  ROOM,
  surroundings,
  TOKEN,
  USER,
} from "./old.ts";

await initAsync();
const PEER = "@anna:localhost";
const HOMESERVER = "https://matrix.example.org";
const settings = () => new DecryptionSettings(TrustRequirement.Untrusted);
const IMPORTED = [`${DATABASE}.imported`, "session.json.imported"];

function take(store: Store, folder: OldFolder, user = "toggle"): Promise<void> {
  return takeOver({ store, folder: folder.path, homeserver: HOMESERVER, user });
}

/** Opens the Rust crypto that was taken over, and lets it ask for devices: its own first, as every start does. */
async function machineOf(store: Store, kind: Kind): Promise<OlmMachine> {
  const handle = await StoreHandle.openWithKey(CRYPTO_NAME, store.cryptoKey);
  const machine = await OlmMachine.initFromStore(new UserId(USER), new DeviceId(DEVICE), handle);
  const { deviceKeys, peerDevices } = surroundings(kind);
  for (const [user, devices] of Object.entries({ [USER]: { [DEVICE]: deviceKeys }, [PEER]: peerDevices })) {
    await machine.updateTrackedUsers([new UserId(user)]);
    const { id, type } = machine.queryKeysForUsers([new UserId(user)]);
    await machine.markRequestAsSent(id, type, JSON.stringify({ device_keys: { [user]: devices } }));
  }
  return machine;
}

/** Hands over to-device events; returns what could be read of them. */
async function receive(machine: OlmMachine, events: readonly Json[]): Promise<string[]> {
  const read = await machine.receiveSyncChanges(
    JSON.stringify(events),
    new DeviceLists(),
    new Map([["signed_curve25519", 5]]),
    undefined,
    settings(),
  );
  return read.map(({ rawEvent }) => JSON.parse(rawEvent).content.body);
}

/** The body, and whether it is certain whose session it is. */
async function readMessage(machine: OlmMachine, event: Json): Promise<[body: string, certain: boolean]> {
  const read = await machine.decryptRoomEvent(JSON.stringify(event), new RoomId(ROOM), settings());
  const certain = read.shieldState(false).code !== ShieldStateCode.AuthenticityNotGuaranteed;
  return [JSON.parse(read.event).content.body, certain];
}

/** What was logged meanwhile. */
async function logged(work: () => Promise<unknown>): Promise<string> {
  const lines: string[] = [];
  const sink = ({ level, message }: LogRecord): void => void lines.push(`${level}: ${message.join("")}`);
  const loggers = [{ category: "openclaw-toggle", sinks: ["sink" as const] }, {
    category: ["logtape", "meta"],
    sinks: [],
  }];
  await configure({ sinks: { sink }, loggers, reset: true });
  try {
    await work();
  } finally {
    await reset();
  }
  return lines.join("\n");
}

/** Asserts that the store holds all that the old one held. */
async function assertTakenOver(store: Store, kind: Kind): Promise<void> {
  const { deviceKeys, oneTimeKeys, toDevice, messages } = surroundings(kind);
  const session = { homeserver: HOMESERVER, userId: USER, deviceId: DEVICE, accessToken: TOKEN };
  assert.deepEqual(store.account.load(), session);
  assert.deepEqual([store.rooms.syncToken(), store.rooms.tokenIsAdopted()], ["s42", true]);
  store.rooms.save({
    roomId: ROOM,
    membership: "join",
    encrypted: false,
    encryption: undefined,
    inviters: [],
    ownName: undefined,
  });
  assert.equal(store.rooms.get(ROOM)?.encryption?.algorithm, "m.megolm.v1.aes-sha2");

  const machine = await machineOf(store, kind);
  try {
    const { ed25519, curve25519 } = machine.identityKeys;
    assert.equal(ed25519.toBase64(), deviceKeys.keys[`ed25519:${DEVICE}`]);
    assert.equal(curve25519.toBase64(), deviceKeys.keys[`curve25519:${DEVICE}`]);
    for (const { body, event } of messages) {
      assert.deepEqual(await readMessage(machine, event), [body, body !== "forwarded"]);
    }
    const bodies = await receive(machine, toDevice.map(({ event }) => event));
    assert.deepEqual(bodies, toDevice.map(({ body }) => body));

    const [upload] = (await machine.outgoingRequests()).filter((request) => request instanceof KeysUploadRequest);
    assert.ok(upload);
    const body = JSON.parse(upload.body);
    assert.ok(Object.keys(body.one_time_keys).length > 0);
    assert.deepEqual(body.device_keys, deviceKeys);
    const [old, made] = [oneTimeKeys, body.one_time_keys].map((keys) => new Set(Object.keys(keys).map(numberOf)));
    assert.deepEqual(made?.intersection(old ?? made), new Set(), "ids of one-time keys are given twice");
  } finally {
    machine.close();
  }
}

/** An id as a number: libolm writes it in four bytes, vodozemac in eight. */
function numberOf(id: string): number {
  return Number(BigInt(`0x${Buffer.from(id.slice(id.indexOf(":") + 1), "base64").toString("hex")}`));
}

for (const kind of kinds) {
  Deno.test(`takeOver() takes over all that a store of kind "${kind}" holds, once`, async () => {
    await using folder = new OldFolder(kind);
    assert.equal(findOldStore(folder.path), `device ${DEVICE} of ${USER}`);
    const log = await logged(() =>
      folder.withStore(async (store) => {
        await take(store, folder);
        await assertTakenOver(store, kind);
        assert.deepEqual(folder.oldFiles(), [DATABASE, "session.json"], "the Python operator may still be there");
        assert.equal(retireOldStore(store, folder.path), true);
        assert.equal(retireOldStore(store, folder.path), false);
      })
    );
    assert.match(log, /info: took over 4 Olm sessions\ninfo: took over 2 Megolm sessions\n/);
    assert.match(
      log,
      /info: took over device OLDDEVICE of @toggle:localhost from the Python operator, with 1 encrypted/,
    );
    assert.doesNotMatch(log, /warning|error/);
    assert.ok(!log.includes(TOKEN));
    assert.deepEqual(folder.oldFiles(), IMPORTED);
    for (const name of IMPORTED) assert.equal((Deno.statSync(folder.file(name)).mode ?? 0) & 0o777, 0o600, name);
    assert.equal(findOldStore(folder.path), undefined);

    const again = await logged(() => folder.withStore((store) => take(store, folder)));
    assert.equal(again, "");
  });
}

Deno.test("takeOver() keeps the identity of a cross-signing secret", async () => {
  await using folder = new OldFolder("vodozemac");
  folder.write("cross_signing_secret", "the secret\n");
  await folder.withStore(async (store) => {
    await take(store, folder);
    const machine = await machineOf(store, "vodozemac");
    try {
      const keys = await machine.exportCrossSigningKeys();
      const seed = createHmac("sha256", "the secret").update("minimatrix cross-signing master").digest();
      assert.equal(keys?.masterKey, seed.toString("base64").replace(/=+$/, ""));
      const der = Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), seed]);
      const publicKey = createPublicKey(createPrivateKey({ key: der, format: "der", type: "pkcs8" }));
      const { masterKey } = (await machine.bootstrapCrossSigning(false)).uploadSigningKeysRequest.body
        .match(/"master_key":.*?"ed25519:(?<masterKey>[^"]+)"/s)?.groups ?? {};
      assert.equal(
        masterKey,
        publicKey.export({ format: "der", type: "spki" }).subarray(-32).toString("base64").slice(0, 43),
      );
    } finally {
      machine.close();
    }
    retireOldStore(store, folder.path);
  });
  assert.deepEqual(folder.oldFiles(), [IMPORTED[0], "cross_signing_secret.imported", IMPORTED[1]]);
});

Deno.test("takeOver() skips unreadable sessions, and logs how many", async () => {
  await using folder = new OldFolder("libolm");
  const rubbish = new TextEncoder().encode("rubbish");
  folder.alter("UPDATE megolminboundsessions SET session = ? WHERE rowid = 1", rubbish);
  folder.alter("UPDATE olmsessions SET session = ? WHERE rowid = 2", rubbish);
  const log = await logged(() =>
    folder.withStore(async (store) => {
      await take(store, folder);
      const machine = await machineOf(store, "libolm");
      try {
        const read = await Promise.allSettled(
          surroundings("libolm").messages.map((m) => readMessage(machine, m.event)),
        );
        assert.deepEqual(read.map(({ status }) => status).sort(), ["fulfilled", "rejected"]);
      } finally {
        machine.close();
      }
    })
  );
  assert.match(log, /info: took over 3 Olm sessions\nwarning: skipped 1 of 4 Olm sessions: unreadable/);
  assert.match(log, /info: took over 1 Megolm sessions\nwarning: skipped 1 of 2 Megolm sessions: unreadable/);
});

Deno.test("takeOver() reads dates that are none, and a store without a sync token", async () => {
  await using folder = new OldFolder("libolm");
  folder.alter("UPDATE olmsessions SET creation_time = 'yesterday', last_usage_date = '2026-01-01 00:00:00'");
  folder.alter("DELETE FROM synctokens");
  await folder.withStore(async (store) => {
    await take(store, folder);
    assert.deepEqual([store.rooms.syncToken(), store.rooms.tokenIsAdopted()], [undefined, false]);
  });
});

Deno.test("takeOver() takes back what the Python operator was killed in, as SQLite does", async () => {
  await using folder = new OldFolder("libolm");
  await using killed = new OldFolder("libolm");
  const database = new DatabaseSync(folder.file(DATABASE));
  // So much that it goes to disk before it is committed, and what was there before into the journal.
  database.exec(`PRAGMA cache_size = 1; BEGIN; UPDATE accounts SET account = 'spoilt'; CREATE TABLE filling (text);
    INSERT INTO filling SELECT hex(randomblob(5000)) FROM olmsessions`);
  for (const name of [DATABASE, `${DATABASE}-journal`]) Deno.copyFileSync(folder.file(name), killed.file(name));
  database.close();
  await killed.withStore(async (store) => {
    await take(store, killed);
    await assertTakenOver(store, "libolm");
    retireOldStore(store, killed.path);
  });
  assert.deepEqual(killed.oldFiles(), [`${DATABASE}-journal.imported`, ...IMPORTED].sort());

  // Without the journal, what was not committed counts.
  Deno.removeSync(folder.file(DATABASE));
  Deno.copyFileSync(killed.file(`${DATABASE}.imported`), folder.file(DATABASE));
  await folder.withStore((store) => assert.rejects(take(store, folder), /cannot be read|damaged|malformed/));
});

Deno.test("takeOver() removes what an interrupted takeover of another device has left", async () => {
  await using folder = new OldFolder("libolm");
  await folder.withStore(async (store) => {
    const killed = () => {
      throw new Error("killed");
    };
    await assert.rejects(take(Object.assign(store, { transaction: killed }), folder), /killed/);
  });
  leaveOldStore(folder.path, "vodozemac", TOKEN);
  await folder.withStore(async (store) => {
    await take(store, folder);
    await assertTakenOver(store, "vodozemac");
    const machine = await machineOf(store, "vodozemac");
    try {
      for (const { event } of surroundings("libolm").messages) await assert.rejects(readMessage(machine, event));
    } finally {
      machine.close();
    }
  });
});

Deno.test("findOldStore() returns the store's owner, or what is missing, and changes nothing", async () => {
  await using folder = new OldFolder("libolm");
  assert.equal(findOldStore(folder.file("nothing")), undefined);
  assert.equal(findOldStore(folder.path), `device ${DEVICE} of ${USER}`);
  Deno.renameSync(folder.file(DATABASE), folder.file("elsewhere"));
  assert.throws(() => findOldStore(folder.path), /\.db: the file is missing/);
  Deno.renameSync(folder.file("elsewhere"), folder.file(DATABASE));
  Deno.removeSync(folder.file("session.json"));
  assert.throws(() => findOldStore(folder.path), /session\.json: it is missing, and with it the access token/);
  assert.deepEqual(folder.oldFiles(), [DATABASE]);
});

interface Failure {
  readonly name: string;
  readonly spoil: (folder: OldFolder) => void;
  readonly user?: string;
  readonly message: RegExp;
}

const OUT = "; bring a backup of the whole folder back, or start once with --fresh-device, which sets these files " +
  "aside and makes a new device$";
const failures: readonly Failure[] = [
  {
    name: "pickles under another key",
    // Any text of the right form is one under another key.
    spoil: (folder) => folder.alter("UPDATE accounts SET account = ?", Buffer.from(btoa("x".repeat(300)))),
    message: /\.db: the device's account cannot be read \(.*MAC/,
  },
  {
    name: "a truncated database",
    spoil: (folder) => Deno.truncateSync(folder.file(DATABASE), 9_000),
    message: /\.db: .*(malformed|damaged)/,
  },
  {
    name: "a database of something else",
    spoil: (folder) => folder.write(DATABASE, "nothing like a database ".repeat(100)),
    message: /\.db: file is not a database/,
  },
  {
    name: "a session without its database",
    spoil: (folder) => Deno.removeSync(folder.file(DATABASE)),
    message: /\.db: the file is missing/,
  },
  {
    name: "an empty database",
    spoil: (folder) => Deno.truncateSync(folder.file(DATABASE), 0),
    message: /\.db: no such table: storeversion/,
  },
  {
    name: "a database without the account",
    spoil: (folder) => folder.alter("DELETE FROM accounts"),
    message: /\.db: it has no account of @toggle:localhost, device OLDDEVICE/,
  },
  {
    name: "a database of a newer version",
    spoil: (folder) => folder.alter("UPDATE storeversion SET version = 3"),
    message: /\.db: its version is 3, and only 2 is known/,
  },
  {
    name: "a database without its session",
    spoil: (folder) => Deno.removeSync(folder.file("session.json")),
    message: /session\.json: it is missing, and with it the access token/,
  },
  {
    name: "a session that is no JSON",
    spoil: (folder) => folder.write("session.json", `{"access_token": "${TOKEN}"`),
    message: /session\.json: it is no JSON/,
  },
  {
    name: "a session without a token",
    spoil: (folder) => folder.write("session.json", JSON.stringify({ user_id: USER, device_id: DEVICE })),
    message: /session\.json: it names no user, device or token/,
  },
  {
    name: "another user's store",
    spoil: () => {},
    user: "somebody",
    message: /\.db: it belongs to @toggle:localhost, and MATRIX_USER is somebody/,
  },
  {
    name: "the store of a user whose name begins with ours",
    spoil: () => {},
    user: "tog",
    message: /\.db: it belongs to @toggle:localhost, and MATRIX_USER is tog;/,
  },
  {
    name: "the store of a user whose name ours begins with",
    spoil: () => {},
    user: "@toggle:localhost.example.org",
    message: /\.db: it belongs to @toggle:localhost, and MATRIX_USER is @toggle:localhost\.example\.org/,
  },
];

Deno.test("takeOver() explains why a store can't be taken over, and leaves it unchanged", async (t) => {
  for (const { name, spoil, user, message } of failures) {
    await t.step(name, async () => {
      await using folder = new OldFolder("vodozemac");
      spoil(folder);
      const contents = () => folder.oldFiles().map((file) => [file, Deno.readTextFileSync(folder.file(file))]);
      const before = contents();
      await folder.withStore(async (store) => {
        const error = await take(store, folder, user).then(() => undefined, (error) => error);
        assert.equal(error?.name, "StoreError", String(error));
        assert.match(error.message, /^Cannot take over the Python operator's store: /);
        assert.match(error.message, message);
        assert.match(error.message, new RegExp(OUT));
        assert.ok(!error.message.includes(TOKEN));
        assert.equal(store.account.load(), undefined);
        assert.equal(store.rooms.syncToken(), undefined);
      });
      assert.deepEqual(contents(), before);

      // The way out that the message names.
      setOldStoreAside(folder.path);
      assert.deepEqual(folder.oldFiles(), before.map(([file]) => `${file}.aside`));
      await folder.withStore((store) => take(store, folder));
    });
  }
});

Deno.test("takeOver() ignores an old store, and says so, if ours has or had a session", async (t) => {
  for (const account of [true, false]) {
    await t.step(account ? "has" : "had", async () => {
      await using folder = new OldFolder("libolm");
      await folder.withStore(async (store) => {
        if (account) store.account.save({ homeserver: HOMESERVER, userId: USER, deviceId: "OURS", accessToken: "t" });
        else store.rooms.setSyncToken("s1");
        const log = await logged(() => take(store, folder));
        assert.match(
          log,
          /^warning: ignored @toggle.*\.db, session\.json of the Python operator: .*; delete them$/,
        );
        assert.notEqual(store.account.load()?.deviceId, DEVICE);
      });
      assert.deepEqual(folder.oldFiles(), [DATABASE, "session.json"]);
    });
  }
});

Deno.test({
  name: "setOldStoreAside() renames what belongs to another user, whose mode it may not change",
  // To be kept from changing it, one must be root first, and give that right up.
  ignore: Deno.build.os !== "linux" || Deno.uid() !== 0,
  async fn() {
    await using folder = new OldFolder("libolm");
    for (const file of folder.oldFiles()) Deno.chownSync(`${folder.path}/${file}`, 1200, 1200);
    const program = new URL("aside_program.ts", import.meta.url).pathname;
    const args = ["--bounding-set=-fowner", "--inh-caps=-fowner", Deno.execPath(), "run", "-A", program, folder.path];
    const { success, stderr } = await new Deno.Command("setpriv", { args }).output();
    assert.ok(success, new TextDecoder().decode(stderr));
    assert.deepEqual(folder.oldFiles(), [`${DATABASE}.aside`, "session.json.aside"]);
  },
});
