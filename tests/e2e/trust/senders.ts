/** The senders of the matrix: who speaks to the operator, from which device, and in whose name. */

import type { Phone } from "../../../testbed/phone.ts";
import { type Client, type Outgoing, put, Room } from "./people.ts";
import type { World } from "./world.ts";

/** What the senders are called in the table. */
export const senderNames = [
  "stranger",
  "allowed, in clear",
  "allowed, unsigned device",
  "allowed, changed identity",
  "allowed, device made anew",
  "allowed, another's session",
  "self",
  "allowed and right",
  "allowed and right, no identity",
] as const;

/** What a sender is called in the table. */
export type SenderName = typeof senderNames[number];

/** One of the senders, with a room where the operator and Alice are, too. */
export interface Sender {
  /** What it is called. */
  readonly name: SenderName;
  /** The room. Alice's right phone looks at it. */
  readonly room: Room;
  /** Who encrypts; undefined: nobody. */
  readonly encrypter: Client | undefined;
  /** In whose name, and with whose access token, it is sent. */
  readonly speaker: Client;
  /** Something encrypted and sent before, and perhaps obeyed then. */
  readonly old: Outgoing | undefined;
  /** Somebody right in whose name a forger would speak; a member of the room. */
  readonly victim: Client;
}

/** A command, with something in it that nobody else says. */
export function command(world: World, body: string, more: Readonly<Record<string, unknown>> = {}): Outgoing {
  const formatted_body = `${body}<!-- ${world.phrase()} -->`;
  const format = "org.matrix.custom.html";
  return { type: "m.room.message", content: { msgtype: "m.text", body, format, formatted_body, ...more } };
}

/** Sends an event as a sender does. Returns its event id. */
export async function sendAs({ encrypter, speaker, room }: Sender, { type, content }: Outgoing): Promise<string> {
  const event = encrypter ? await encrypter.encrypt(room.roomId, type, content) : { type, content };
  return await put(speaker, room.roomId, event);
}

/** Brings every sender about. What is allowed and right commands once, and is known from then on. */
export async function gather(world: World): Promise<Sender[]> {
  const { alice, bob, carol, dave, mallory, operatorId } = world;
  const roomWith = (...others: Client[]) => Room.create(alice, operatorId, [...others, dave]);
  const [strangers, clear, unsigned, changed, anew, session, self, right, known] = await Promise.all([
    roomWith(mallory),
    roomWith(),
    roomWith(),
    roomWith(bob),
    roomWith(carol),
    roomWith(mallory),
    roomWith(),
    roomWith(),
    roomWith(),
  ]);
  await right.ask("status");
  await known.answerTo(
    await put(dave, known.roomId, await dave.encrypt(known.roomId, ...parts(command(world, "status")))),
  );

  const before = await startAndStop(world, carol, anew);
  const carolAnew = await makeAnew(world, carol, anew);
  const beforeChange = await startAndStop(world, bob, changed);
  await world.untilAsked(() => bob.makeIdentity().then(() => {}));
  const [aliceUnsigned, toggle] = await Promise.all([world.login("alice"), world.login("toggle")]);
  await Promise.all([
    aliceUnsigned.untilJoined(unsigned.roomId, [alice.userId, operatorId]),
    toggle.untilJoined(self.roomId, [alice.userId, operatorId]),
  ]);

  const one = (
    name: SenderName,
    room: Room,
    encrypter: Client | undefined,
    speaker: Client,
    victim: Client,
    old?: Outgoing,
  ) => ({ name, room, encrypter, speaker, victim, old });
  return [
    one("stranger", strangers, mallory, mallory, alice),
    one("allowed, in clear", clear, undefined, alice, dave),
    one("allowed, unsigned device", unsigned, aliceUnsigned, aliceUnsigned, dave),
    one("allowed, changed identity", changed, bob, bob, alice, beforeChange),
    one("allowed, device made anew", anew, carol, carolAnew, alice, before),
    one("allowed, another's session", session, mallory, alice, dave),
    one("self", self, toggle, toggle, alice),
    one("allowed and right", right, alice, alice, dave),
    one("allowed and right, no identity", known, dave, dave, alice),
  ];
}

function parts({ type, content }: Outgoing): [string, Outgoing["content"]] {
  return [type, content];
}

/** Commands that are obeyed. Returns the start as it went out. */
async function startAndStop(world: World, client: Client, room: Room): Promise<Outgoing> {
  const start = await client.encrypt(room.roomId, ...parts(command(world, "start")));
  await room.answerTo(await put(client, room.roomId, start));
  await room.answerTo(
    await put(client, room.roomId, await client.encrypt(room.roomId, ...parts(command(world, "stop")))),
  );
  return start;
}

/**
 * Deletes a person's device and logs in on one of the same id, which has other keys. The old phone cannot reach the
 * homeserver any more, but it has its keys still.
 */
async function makeAnew(world: World, phone: Phone, room: Room): Promise<Phone> {
  await world.untilAsked(() => world.administrator.deleteDevice(phone.userId, phone.deviceId));
  const anew = await world.login("carol", { deviceId: phone.deviceId });
  await anew.untilJoined(room.roomId, [world.alice.userId, world.operatorId]);
  return anew;
}
