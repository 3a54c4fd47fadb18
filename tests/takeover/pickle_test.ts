import assert from "node:assert/strict";
import { createCipheriv, createDecipheriv, createHash, createHmac, hkdfSync } from "node:crypto";
import { libolmPickle, type Pickled } from "../../lib/takeover/pickle.ts";
import { type Kind, openFixture } from "./old.ts";

const columns: readonly [what: Pickled, sql: string, keyPairs: number][] = [
  ["account", "SELECT account AS pickle FROM accounts", 2],
  ["session", "SELECT session AS pickle FROM olmsessions ORDER BY session_id", 1],
  ["group session", "SELECT session AS pickle FROM megolminboundsessions ORDER BY session_id", 0],
];
/** Version, two key pairs. */
const ACCOUNT_HEAD = 4 + 32 + 64 + 32 + 32;
/** Id, published, a key pair. */
const ONE_TIME_KEY = 4 + 1 + 32 + 32;

function pickles(kind: Kind, sql: string): string[] {
  const database = openFixture(kind);
  try {
    return database.prepare(sql).all().map(({ pickle }) => new TextDecoder().decode(pickle as Uint8Array));
  } finally {
    database.close();
  }
}

/** What a libolm pickle holds. */
function opened(pickle: string): Buffer {
  const keys = new Uint8Array(hkdfSync("sha256", "DEFAULT_KEY", "", "Pickle", 80));
  const decipher = createDecipheriv("aes-256-cbc", keys.subarray(0, 32), keys.subarray(64));
  return Buffer.concat([decipher.update(Buffer.from(pickle, "base64").subarray(0, -8)), decipher.final()]);
}

/** The original, but for what the conversion leaves empty, and how many bytes that is. */
function withoutDerived(original: Buffer, converted: Buffer): [Buffer, number] {
  const left = Buffer.from(original.map((byte, at) => converted[at] === 0 ? 0 : byte));
  return [left, original.filter((byte, at) => byte !== left[at]).length];
}

/** One-time keys of an account, a Buffer each, by id. */
function oneTimeKeys(account: Buffer): Buffer[] {
  const count = account.readUInt32BE(ACCOUNT_HEAD);
  return Array.from({ length: count }, (_, index) => {
    const at = ACCOUNT_HEAD + 4 + index * ONE_TIME_KEY;
    return account.subarray(at, at + ONE_TIME_KEY);
  }).sort(Buffer.compare);
}

Deno.test("libolmPickle() returns libolm's own pickles unchanged", () => {
  for (const [what, sql] of columns) {
    for (const pickle of pickles("libolm", sql)) assert.equal(libolmPickle(what, pickle), pickle);
  }
});

Deno.test("libolmPickle() gives back what matrix-nio 0.26 has converted from libolm's pickles", async (t) => {
  for (const [what, sql, keyPairs] of columns) {
    await t.step(what, () => {
      const originals = pickles("libolm", sql).map(opened);
      const converted = pickles("upgraded", sql).map((pickle) => opened(libolmPickle(what, pickle)));
      assert.deepEqual(converted.map(({ length }) => length), originals.map(({ length }) => length));
      for (const [index, original] of originals.entries()) {
        const made = converted[index] ?? Buffer.of();
        const end = what === "account" ? ACCOUNT_HEAD : original.length;
        const [wanted, missing] = withoutDerived(original.subarray(0, end), made);
        assert.deepEqual(made.subarray(0, end), wanted);
        assert.ok(missing <= 32 * keyPairs, `${missing} bytes are missing`);
        if (what !== "account") continue;
        const keys = oneTimeKeys(made);
        for (const [place, key] of oneTimeKeys(original).entries()) {
          const [wantedKey, missingOfIt] = withoutDerived(key, keys[place] ?? Buffer.of());
          assert.deepEqual(keys[place], wantedKey);
          assert.ok(missingOfIt <= 32, `${missingOfIt} bytes of a one-time key are missing`);
        }
        // libolm counts the last one, vodozemac the next.
        assert.equal(made.readUInt32BE(made.length - 4), original.readUInt32BE(original.length - 4) + 1);
      }
    });
  }
});

Deno.test("libolmPickle() refuses what libolm has no form for", () => {
  assert.throws(() => libolmPickle("session", vodozemacPickle({ config: { version: "V2" } })), /version V2/);
});

Deno.test("libolmPickle() puts the chain that is to be answered first, where vodozemac has the newest last", () => {
  const key = (byte: number): number[] => new Array(32).fill(byte);
  const chain = (byte: number) => ({
    ratchet_key: key(byte),
    hkdf_ratchet: { key: key(9), index: 1 },
    skipped_message_keys: { inner: [] },
  });
  const session = {
    config: { version: "V1" },
    session_keys: { identity_key: key(1), base_key: key(2), one_time_key: key(3) },
    sending_ratchet: { type: "inactive", root_key: { key: key(4) }, ratchet_key: key(7) },
    receiving_chains: { inner: [chain(5), chain(6), chain(7)] },
  };
  const made = opened(libolmPickle("session", vodozemacPickle(session)));
  const firstChain = 4 + 1 + 4 * 32 + 4 + 4;
  const chains = [0, 1, 2].map((index) => made[firstChain + index * (32 + 32 + 4)]);
  assert.deepEqual(chains, [7, 5, 6]);
});

/** As vodozemac makes it. */
function vodozemacPickle(content: unknown): string {
  const key = createHash("sha256").update("DEFAULT_KEY").digest();
  const keys = new Uint8Array(hkdfSync("sha256", key, "", "Pickle", 80));
  const cipher = createCipheriv("aes-256-cbc", keys.subarray(0, 32), keys.subarray(64));
  const text = Buffer.concat([cipher.update(JSON.stringify(content), "utf8"), cipher.final()]);
  const mac = createHmac("sha256", keys.subarray(32, 64)).update(text).digest().subarray(0, 8);
  return Buffer.concat([text, mac]).toString("base64");
}
