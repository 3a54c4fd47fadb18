/**
 * The refusal matrix: every way in, by every sender, and what comes of it. Printed as it is asserted.
 *
 * @module
 */

import assert from "node:assert/strict";
import { configure, type LogRecord, reset } from "@logtape/logtape";
import type { InboxEvent, Payload, SenderFacts } from "../../lib/operator/mod.ts";
import { alice, clear, decrypted, mallory, phone, rest, room, self, World } from "./fakes.ts";

/** A sender: who, and what the crypto tells of the message; `clear`: there is nothing that it could tell. */
interface Sender {
  readonly user: string;
  readonly facts: Partial<SenderFacts> | "clear";
}

const goodDevice = { ...phone, deleted: false, sameKeysAsSession: true };
const tablet = { deviceId: "TABLET", ed25519: "key of TABLET", crossSignedByOwner: false };
/** Alice is pinned by her identity. */
const senders = {
  "stranger": { user: mallory, facts: {} },
  "in clear": { user: alice, facts: "clear" },
  "unsigned device": {
    user: alice,
    facts: { deviceId: "TABLET", device: { ...goodDevice, ...tablet }, devices: [phone, tablet] },
  },
  "changed identity": { user: alice, facts: { identity: { masterKey: "another master" } } },
  "re-created device": { user: alice, facts: { device: { ...goodDevice, sameKeysAsSession: false } } },
  "another's session": { user: alice, facts: { forwardedBy: alice } },
  "self": { user: self, facts: {} },
  "right": { user: alice, facts: {} },
} as const satisfies Record<string, Sender>;

type Content = Record<string, unknown>;

/** A message by a sender, with the content that makes it what it is. */
function message(body: string, content: Content = {}, changes: Partial<SenderFacts> = {}) {
  return ({ user: sender, facts }: Sender, index: number): Partial<InboxEvent> & { payload: Payload } => {
    if (facts === "clear") {
      const payload = clear(body);
      assert.ok(payload.kind === "clear");
      return { sender, payload: { ...payload, content: { ...payload.content, ...content } } };
    }
    const senderFacts = { ...facts, ...changes };
    return { sender, payload: decrypted(body, { sessionId: "m", messageIndex: index }, { content, senderFacts }) };
  };
}

const undecryptable = ({ user: sender }: Sender): Partial<InboxEvent> & { payload: Payload } => ({
  sender,
  payload: { kind: "undecryptable", why: { kind: "no-key" }, sessionId: "late" },
});

const start = message("start");

/** Ways in: what is done with a running operator, or before it runs. */
const ways = {
  "command": (world, sender) => whileUp(world, start(sender, 1)),
  "mention": (world, sender) =>
    whileUp(world, message(`${self}: start`, { "m.mentions": { user_ids: [self] } })(sender, 1)),
  "edit": (world, sender) => whileUp(world, message("* start", { "m.new_content": { body: "start" } })(sender, 1)),
  "reaction": (world, { user: sender }) =>
    whileUp(world, { sender, event: { type: "m.reaction", content: { "m.relates_to": { key: "start" } } } }),
  "invitation, up": async (world, { user }) => {
    await using running = world.start();
    await rest();
    world.invitations = [{ roomId: "!new", inviters: [user] }];
    running.operator.roomsChanged();
    await rest();
  },
  "invitation, down": async (world, { user }) => {
    world.invitations = [{ roomId: "!new", inviters: [user] }];
    await using _running = world.start();
    await rest();
  },
  "undecryptable": (world, sender) => whileUp(world, undecryptable(sender)),
  "verification": (world, sender) =>
    whileUp(world, message("verify", { msgtype: "m.key.verification.request", to: self })(sender, 1)),
  "replay": async (world, sender) => {
    const original = message("start")(senders.right, 1);
    await whileUp(world, original);
    world.setScale(0);
    forget(world);
    await whileUp(world, start(sender, 1));
  },
  "forged": (world, sender) => whileUp(world, message("start", {}, { mismatchedSender: true })(sender, 1)),
} as const satisfies Readonly<Record<string, (world: World, sender: Sender) => Promise<void>>>;

async function whileUp(world: World, how: Partial<InboxEvent> & { payload?: Payload }): Promise<void> {
  await using running = world.start();
  await rest();
  await running.receive("start", how);
  await world.clock.advance(10_000);
}

function forget(world: World): void {
  world.said.clear();
  world.remembered = undefined;
  world.refusals.length = world.effects.length = world.membershipCalls.length = 0;
}

type Row = Readonly<Record<keyof typeof senders, string>>;

function all(cell: string): Row {
  return {
    "stranger": cell,
    "in clear": cell,
    "unsigned device": cell,
    "changed identity": cell,
    "re-created device": cell,
    "another's session": cell,
    "self": cell,
    "right": cell,
  };
}

const command: Row = {
  "stranger": "-, silent, stranger",
  "in clear": "-, not encrypted, clear-in-encrypted-room",
  "unsigned device": "-, not verified, unsigned-device",
  "changed identity": "-, other identity, other-identity",
  "re-created device": "-, which device?, other-keys",
  "another's session": "-, which device?, forwarded",
  "self": "-, silent, -",
  "right": "start, answer, -",
};
const { stranger, self: ours } = command;
const invitation = {
  ...all("join, silent, -"),
  "stranger": "decline, silent, invitation",
  "self": "decline, silent, invitation",
};

/**
 * What is expected: the effect (`start`, `join`, `decline` or none), what is said, and the reason that is counted and
 * logged.
 */
const expected: Readonly<Record<keyof typeof ways, Row>> = {
  "command": command,
  "mention": command,
  "edit": { ...command, "right": "-, silent, edit" },
  "reaction": all("-, silent, -"),
  "invitation, up": invitation,
  "invitation, down": invitation,
  "undecryptable": { ...all("-, cannot read, (undecryptable)"), stranger, "self": ours },
  // What is done about it is the chat's affair; it is no command, whoever sends it.
  "verification": { ...all("-, silent, -"), stranger, "changed identity": "-, other identity, -" },
  "replay": {
    ...command,
    "unsigned device": "-, silent, repeat",
    "changed identity": "-, other identity, repeat",
    "right": "-, silent, repeat",
  },
  // Clear text names no session that could belong to somebody else.
  "forged": { ...all("-, silent, mismatched-sender"), stranger, "in clear": command["in clear"], "self": ours },
};

const sayings: [says: RegExp, inShort: string][] = [
  [/is now on/, "answer"],
  [/that message was not encrypted/, "not encrypted"],
  [/a device that you have not verified/, "not verified"],
  [/identity \(cross-signing\)/, "other identity"],
  [/cannot tell for certain/, "which device?"],
  [/cannot read your message/, "cannot read"],
];

/** What came about, in the words of the table. */
function cellOf(world: World): string {
  const [call = ""] = world.membershipCalls;
  const moved = call.startsWith("join") ? "join" : call.startsWith("leave") ? "decline" : "-";
  const effect = world.effects.length > 0 ? "start" : moved;
  const said = new Set(world.texts.map((words) => sayings.find(([says]) => says.test(words))?.[1] ?? words));
  return `${effect}, ${[...said].join(" + ") || "silent"}, ${world.refusals.join(" + ") || "-"}`;
}

Deno.test("the refusal matrix: every way in, by every sender", async (t) => {
  const lines: string[] = [];
  for (const [way, act] of Object.entries(ways) as [keyof typeof ways, typeof ways[keyof typeof ways]][]) {
    lines.push("", way);
    for (const [name, sender] of Object.entries(senders) as [keyof typeof senders, Sender][]) {
      await t.step(`${way}, ${name}: ${expected[way][name]}`, async () => {
        const world = new World();
        world.room(room, { joined: [alice, mallory, self] });
        world.pins.set(alice, { kind: "identity", masterKey: "master", sinceMs: 0, roomId: room });
        const records: LogRecord[] = [];
        await configure({
          reset: true,
          sinks: { all: (record) => void records.push(record) },
          loggers: [{ category: "openclaw-toggle", lowestLevel: "debug", sinks: ["all"] }, {
            category: ["logtape", "meta"],
            lowestLevel: "fatal",
          }],
        });
        await act(world, sender).finally(() => reset());
        const cell = cellOf(world);
        assert.equal(cell, expected[way][name]);
        // Whatever is counted stands in the log, with its reason.
        const logged = records.map(({ properties }) => properties);
        for (const reason of world.refusals.filter((each) => !each.startsWith("("))) {
          assert.ok(logged.some((properties) => properties.reason === reason), `${reason} is not in the log`);
        }
        lines.push(`  ${name.padEnd(20)}${cell}`);
      });
    }
  }
  console.log(lines.join("\n"));
});
