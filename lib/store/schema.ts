/**
 * Schemas of the store's databases, version by version. A released step is never changed; a new one is added.
 *
 * @module
 */

import { indexTables, recordTables } from "./indexeddb/mod.ts";
import { megolmIndexSchema } from "./megolm_index.ts";
import type { Schema } from "./sqlite.ts";

/** Schema of state.sqlite3. `content` and `intent` are sealed. `seq` is an event's position, reassigned after a gap. */
export const stateSchema: Schema = {
  applicationId: 0x6f637431, // "oct1"
  steps: [
    `
    CREATE TABLE meta (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO meta VALUES ('place', 0), ('crypto', 1), ('crypto_begun', 0);

    -- Membership is null in a forgotten room; that it was encrypted is kept.
    CREATE TABLE rooms (
      room_id TEXT PRIMARY KEY, membership TEXT, encryption TEXT, members_complete INTEGER NOT NULL,
      inviters TEXT NOT NULL, aliases TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE members (
      room_id TEXT NOT NULL, user_id TEXT NOT NULL, membership TEXT NOT NULL, PRIMARY KEY (room_id, user_id)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE gaps (
      id INTEGER PRIMARY KEY AUTOINCREMENT, room_id TEXT NOT NULL, from_token TEXT NOT NULL, to_token TEXT
    ) STRICT;
    CREATE TABLE events (
      seq INTEGER PRIMARY KEY, room_id TEXT NOT NULL, event_id TEXT NOT NULL, sender TEXT NOT NULL,
      received_at_ms INTEGER NOT NULL, age_ms INTEGER,
      state TEXT NOT NULL CHECK (state IN ('new', 'held', 'undecryptable', 'acting', 'settled')),
      gap INTEGER REFERENCES gaps (id), session_id TEXT, message_index INTEGER,
      content BLOB, intent BLOB, outcome TEXT, settled_at_ms INTEGER,
      UNIQUE (room_id, event_id)
    ) STRICT;
    CREATE INDEX unsettled ON events (seq) WHERE state <> 'settled';
    CREATE INDEX held ON events (gap, seq) WHERE gap IS NOT NULL;
    CREATE UNIQUE INDEX claims ON events (room_id, session_id, message_index) WHERE message_index IS NOT NULL;
    -- Claims of deleted rows: no message index up to this one is accepted again.
    CREATE TABLE floors (
      room_id TEXT NOT NULL, session_id TEXT NOT NULL, message_index INTEGER NOT NULL, PRIMARY KEY (room_id, session_id)
    ) STRICT, WITHOUT ROWID;

    -- An answer with content is unsent. Otherwise sent_as is the event id it was sent as, or null if it was dropped.
    CREATE TABLE answers (
      id INTEGER PRIMARY KEY, transaction_id TEXT NOT NULL UNIQUE, room_id TEXT NOT NULL, event_id TEXT NOT NULL,
      written_at_ms INTEGER NOT NULL, content BLOB, sent_as TEXT
    ) STRICT;
    CREATE INDEX unsent ON answers (id) WHERE content IS NOT NULL;
  `,
    `
    ALTER TABLE rooms DROP COLUMN members_complete;
    ALTER TABLE rooms DROP COLUMN aliases;

    CREATE TABLE pins (user_id TEXT PRIMARY KEY, content BLOB NOT NULL) STRICT, WITHOUT ROWID;
  `,
    `
    CREATE INDEX arrived ON events (seq) WHERE state = 'new';
    CREATE INDEX undecryptable ON events (room_id, session_id, seq) WHERE state = 'undecryptable';
  `,
    `
    CREATE TABLE stale_users (user_id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
    CREATE TABLE panics (input TEXT PRIMARY KEY, times INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  `,
    `
    -- A room once encrypted stays encrypted; \`encryption\` holds its last usable settings.
    ALTER TABLE rooms ADD COLUMN encrypted INTEGER NOT NULL DEFAULT 0;
    UPDATE rooms SET encrypted = 1 WHERE encryption IS NOT NULL;
    UPDATE rooms SET encryption = NULL WHERE encryption ->> 'algorithm' IS NOT 'm.megolm.v1.aes-sha2';
    ALTER TABLE rooms ADD COLUMN own_name TEXT;

    DELETE FROM members WHERE membership <> 'join';
    ALTER TABLE members DROP COLUMN membership;
    ALTER TABLE members RENAME TO joined_members;

    -- Unavailable parts of timelines that the room hasn't been told about.
    CREATE TABLE cut_histories (id INTEGER PRIMARY KEY AUTOINCREMENT, room_id TEXT NOT NULL) STRICT;

    -- A claim is per sender: the same ciphertext under another sender's name is judged as that sender's.
    DROP INDEX claims;
    CREATE UNIQUE INDEX claims ON events (room_id, session_id, message_index, sender) WHERE message_index IS NOT NULL;
    CREATE TABLE claim_floors (
      room_id TEXT NOT NULL, session_id TEXT NOT NULL, sender TEXT NOT NULL, message_index INTEGER NOT NULL,
      PRIMARY KEY (room_id, session_id, sender)
    ) STRICT, WITHOUT ROWID;
    -- The senders of earlier claims are unknown, so an empty sender stands for every sender.
    INSERT INTO claim_floors SELECT room_id, session_id, '', message_index FROM floors;
    DROP TABLE floors;
  `,
    `
    -- Display names of users who may be mentioned.
    ALTER TABLE joined_members ADD COLUMN name TEXT;
  `,
    `
    DROP INDEX unsent;
    CREATE INDEX unsent ON answers (room_id, id) WHERE content IS NOT NULL;
  `,
    "CREATE INDEX gaps_of_room ON gaps (room_id, id)",
  ],
};

/** Schema of crypto-1.sqlite3 and its successors. */
export const cryptoSchema: Schema = {
  applicationId: 0x6f636b31, // "ock1"
  steps: [recordTables, megolmIndexSchema, indexTables],
};
