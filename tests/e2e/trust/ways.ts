/** The ways in of the matrix: what a sender tries, and how its outcome is observed. */

import { HttpError, type SeenEvent } from "../../../testbed/mod.ts";
import type { Phone } from "../../../testbed/phone.ts";
import { type LogLine, toDeviceMs } from "./log.ts";
import { createRoom, type Outgoing, put } from "./people.ts";
import { command, sendAs, type Sender } from "./senders.ts";
import type { World } from "./world.ts";

/** What was tried: an event in the sender's room, or else the outcome. */
export type Attempt = { readonly eventId: string } | { readonly effect: string; readonly log: string | undefined };

/** A way in. */
export interface Way {
  /** Name in the table. */
  readonly name: string;
  /** Whether senders must try it one at a time. */
  readonly alone?: true;
  /** Tries it. */
  attempt(world: World, sender: Sender): Promise<Attempt>;
}

/** The command that each sender has sent, to be sent again. */
const sent = new Map<Sender, { readonly eventId: string; readonly event: Outgoing }>();

async function say(world: World, sender: Sender): Promise<Attempt> {
  const { type, content } = command(world, "start");
  const { encrypter, room, speaker } = sender;
  const event = encrypter ? await encrypter.encrypt(room.roomId, type, content) : { type, content };
  const eventId = await put(speaker, room.roomId, event);
  sent.set(sender, { eventId, event });
  return { eventId };
}

async function mention(world: World, sender: Sender): Promise<Attempt> {
  const { operatorId } = world;
  const mentions = { "m.mentions": { user_ids: [operatorId] } };
  return { eventId: await sendAs(sender, command(world, `${operatorId}: start`, mentions)) };
}

async function edit(world: World, sender: Sender): Promise<Attempt> {
  const event_id = sent.get(sender)?.eventId;
  const replaced = { "m.new_content": command(world, "start").content };
  const relation = { "m.relates_to": { rel_type: "m.replace", event_id } };
  return { eventId: await sendAs(sender, command(world, "* start", { ...replaced, ...relation })) };
}

/** Sends a reaction. Clients send reactions in clear, even in encrypted rooms. */
async function react(_: World, sender: Sender): Promise<Attempt> {
  const event_id = sent.get(sender)?.eventId;
  const content = { "m.relates_to": { rel_type: "m.annotation", event_id, key: "start" } };
  return { eventId: await put(sender.speaker, sender.room.roomId, { type: "m.reaction", content }) };
}

/** Invites the operator to a new room and observes whether it joins. */
async function invite(world: World, sender: Sender): Promise<Attempt> {
  return await cameOf(world, await inviteToNewRoom(world, sender));
}

/** Invites the operator to a new room. Returns its ID, or undefined if the homeserver refuses the invitation. */
export async function inviteToNewRoom({ operatorId }: World, { speaker }: Sender): Promise<string | undefined> {
  try {
    return await createRoom(speaker, [operatorId]);
  } catch (error) {
    if (error instanceof HttpError && error.status === 403) return undefined;
    throw error;
  }
}

/** Returns the outcome of an invitation. */
export async function cameOf({ log }: World, roomId: string | undefined): Promise<Attempt> {
  if (roomId === undefined) return { effect: "refused by the homeserver", log: undefined };
  const { message, properties } = await log.first(
    `the invitation to ${roomId}`,
    (line) => line.properties["room"] === roomId && /^(joined|declined)/.test(line.message),
  );
  return message.startsWith("joined")
    ? { effect: "joined", log: "joined" }
    : { effect: "declined", log: String(properties["reason"]) };
}

/** Sends a command under a key that the operator never got. */
async function lockOut(world: World, sender: Sender): Promise<Attempt> {
  const { encrypter = sender.speaker, speaker, room } = sender;
  const { type, content } = command(world, "start");
  const event = await encrypter.encrypt(room.roomId, type, content);
  const session_id = crypto.getRandomValues(new Uint8Array(32)).toBase64({ omitPadding: true });
  return { eventId: await put(speaker, room.roomId, { type: event.type, content: { ...event.content, session_id } }) };
}

/**
 * Requests verification by emoji: to-device if the sender's phone supports it, otherwise in the room. The operator's
 * `ready` shows that it was accepted.
 */
async function verify(world: World, sender: Sender): Promise<Attempt> {
  const { room, speaker, encrypter } = sender;
  const from = (await world.log.lines()).length;
  const isPhone = encrypter === speaker && "askToVerify" in speaker;
  const transaction = isPhone ? await (speaker as Phone).askToVerify(world.operatorId) : await sendAs(
    sender,
    {
      type: "m.room.message",
      content: {
        msgtype: "m.key.verification.request",
        body: world.phrase(),
        from_device: encrypter?.deviceId ?? speaker.deviceId,
        methods: ["m.sas.v1"],
        to: world.operatorId,
      },
    },
  );
  await room.ask("help"); // by then it has also seen the request
  const isAbout = ({ properties }: LogLine) => properties["user"] === speaker.userId;
  const about = await world.log.find(isAbout, from, isPhone ? toDeviceMs : 0);
  if (!about?.message.includes("verifies this device")) {
    const isReady = isPhone
      ? (speaker as Phone).isReady(transaction)
      : room.seen.events.some((event) => isReadyFor(event, transaction));
    const { reason } = about?.properties ?? {};
    return { effect: isReady ? "accepted" : "none", log: typeof reason === "string" ? reason : about?.message };
  }
  if (isPhone) await (speaker as Phone).untilReady(transaction);
  else await room.seen.first("ready", (event) => isReadyFor(event, transaction));
  // Two requests at the same time would both be cancelled.
  if (isPhone) await (speaker as Phone).cancelVerification(transaction);
  else {
    const relation = { "m.relates_to": { rel_type: "m.reference", event_id: transaction } };
    const content = { code: "m.user", reason: world.phrase(), ...relation };
    await sendAs(sender, { type: "m.key.verification.cancel", content });
    await room.ask("help");
  }
  return { effect: "accepted", log: about.message };
}

function isReadyFor({ type, content, outerContent }: SeenEvent, transaction: string): boolean {
  return type === "m.key.verification.ready" &&
    [content, outerContent].some((each) => each["m.relates_to"]?.event_id === transaction);
}

/** Sends the ciphertext of a command again under another event ID, if possible of one that was obeyed. */
async function replay(_: World, sender: Sender): Promise<Attempt> {
  const event = sender.old ?? sent.get(sender)?.event;
  if (event === undefined) throw new Error(`${sender.name} has sent nothing yet`);
  return { eventId: await put(sender.speaker, sender.room.roomId, event) };
}

/** Sends a command of this sender in the name of a trusted user. */
async function forge(world: World, { encrypter, room, victim }: Sender): Promise<Attempt> {
  const { type, content } = command(world, "start");
  const event = encrypter ? await encrypter.encrypt(room.roomId, type, content) : { type, content };
  return { eventId: await world.administrator.sendAs(victim.userId, room.roomId, event) };
}

/** All ways except the invitation while the operator is down, which is done for all senders at once. */
export const ways = {
  command: { name: "command", attempt: say },
  mention: { name: "mention", attempt: mention },
  edit: { name: "edit", attempt: edit },
  reaction: { name: "reaction", attempt: react },
  invitation: { name: "invitation while up", attempt: invite },
  undecryptable: { name: "undecryptable", attempt: lockOut },
  verification: { name: "verification request", attempt: verify, alone: true },
  replay: { name: "replay under a new event id", attempt: replay },
  forged: { name: "forged sender", attempt: forge },
} as const satisfies Record<string, Way>;
