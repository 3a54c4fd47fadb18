/** The senders of the matrix: who sends to the operator, from which device, and as which user. */

import type { Phone } from "../../../testbed/phone.ts";
import { type Client, type Outgoing, put, Room } from "./people.ts";
import type { World } from "./world.ts";

/** Names of the senders in the table. */
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

export type SenderName = typeof senderNames[number];

/** A sender, with a room that the operator and Alice are in, too. */
export interface Sender {
  /** Name in the table. */
  readonly name: SenderName;
  /** The room, as seen by Alice's genuine phone. */
  readonly room: Room;
  /** Client that encrypts. Undefined if nothing is encrypted. */
  readonly encrypter: Client | undefined;
  /** User whose access token sends the event. */
  readonly speaker: Client;
  /** An encrypted event that was sent before, and perhaps obeyed. */
  readonly old: Outgoing | undefined;
  /** Trusted user in the room, in whose name a forger would send. */
  readonly victim: Client;
}

/** Builds a command with a unique part. */
export function command(world: World, body: string, more: Readonly<Record<string, unknown>> = {}): Outgoing {
  const formatted_body = `${body}<!-- ${world.phrase()} -->`;
  const format = "org.matrix.custom.html";
  return { type: "m.room.message", content: { msgtype: "m.text", body, format, formatted_body, ...more } };
}

/** Sends an event as the sender. Returns its event ID. */
export async function sendAs({ encrypter, speaker, room }: Sender, { type, content }: Outgoing): Promise<string> {
  const event = encrypter ? await encrypter.encrypt(room.roomId, type, content) : { type, content };
  return await put(speaker, room.roomId, event);
}

/** Creates every sender. Allowed and trusted ones send one command and are known from then on. */
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

/** Sends commands that are obeyed. Returns the start event as sent. */
async function startAndStop(world: World, client: Client, room: Room): Promise<Outgoing> {
  const start = await client.encrypt(room.roomId, ...parts(command(world, "start")));
  await room.answerTo(await put(client, room.roomId, start));
  await room.answerTo(
    await put(client, room.roomId, await client.encrypt(room.roomId, ...parts(command(world, "stop")))),
  );
  return start;
}

/**
 * Deletes a person's device and logs in again under the same ID with other keys. The old phone can't reach the
 * homeserver any more, but still has its keys.
 */
async function makeAnew(world: World, phone: Phone, room: Room): Promise<Phone> {
  await world.untilAsked(() => world.administrator.deleteDevice(phone.userId, phone.deviceId));
  const anew = await world.login("carol", { deviceId: phone.deviceId });
  await anew.untilJoined(room.roomId, [world.alice.userId, world.operatorId]);
  return anew;
}
