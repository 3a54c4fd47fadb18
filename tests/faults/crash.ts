/**
 * The crash suite: whole conversations during which the operator is killed at random moments, and what must hold in
 * the end. Knows servers and phones only as a ground that is handed in, the sandbox's or real ones.
 *
 * @module
 */

import { type Sent, wireFaults } from "./wire.ts";

/** Something that was said in a room, by whomever. */
export interface Said {
  /** Event id. */
  readonly eventId: string;
  /** User id. */
  readonly sender: string;
  /** Event id that it replies to. */
  readonly about: string | undefined;
  /** The first that it said besides acknowledging the command; empty until then. */
  readonly text: string;
  /** It rings no phone. */
  readonly quiet: boolean;
  /** It could be read. */
  readonly readable: boolean;
}

/** A room of the person and the operator. */
export interface Room {
  /** Says a text. Returns its event id. */
  say(text: string): Promise<string>;
  /** Says something that is no command and not answered. */
  murmur(about: string): Promise<void>;
  /** What the person sees. */
  said(): readonly Said[];
  /** Returns when `look` is true, looking again whenever the person sees more. */
  until(look: () => boolean, what: string): Promise<void>;
  /** Returns when the operator is there. */
  joined(): Promise<void>;
  /** Returns when the person sees everything that is there. */
  caughtUp(): Promise<void>;
  /** Everything encrypted in the room, as the homeserver holds it, earliest first. */
  sent(): Promise<readonly Sent[]>;
}

/** A life of the operator. */
export interface Life {
  /** Returns when it is ready. */
  ready(): Promise<void>;
  /** Kills it; returns when it is dead. */
  kill(): Promise<unknown>;
  /** Ends it. Returns its exit code. */
  stop(): Promise<number>;
}

/** Servers, a person, and an operator that lives again and again. */
export interface Ground {
  /** User id of the operator. */
  readonly operatorId: string;
  /** Starts the operator. */
  live(): Life;
  /** Makes a room and invites the operator. */
  invite(): Promise<Room>;
  /** How often the target's count has been changed. */
  effects(): Promise<number>;
}

/** What came of it. */
export interface Figures {
  /** Kills. */
  readonly kills: number;
  /** Kills while a room was being joined, and no command was under way. */
  joining: number;
  /** Kills before the last command had its effect. */
  before: number;
  /** Kills between its effect and its answer. */
  between: number;
  /** Kills after its answer. */
  after: number;
  /** Commands given. */
  commands: number;
  /** Commands without effect, or without an answer that says what was done. */
  lost: number;
  /** Effects and answers too many. */
  doubled: number;
  /** Messages of the operator that could not be read. */
  unreadable: number;
  /** Message indices used again, or out of their order. */
  turnedBack: number;
  /** Outbound sessions seen. */
  sessions: number;
  /** What was lost or doubled, in words. */
  readonly problems: string[];
}

/** How much, and how. */
export interface Plan {
  /** How often the operator is killed. */
  readonly kills: number;
  /** Commands that are given at once. */
  readonly burst?: number;
  /** What has not come by then is lost, milliseconds; for controls. Without it, that is an error. */
  readonly patienceMs?: number;
  /** Says how far it is. */
  readonly progress?: (kills: number) => void;
}

const ANSWERS = { start: /^\S+ is on\b/, stop: /^\S+ is off\b/ } as const;
type Word = keyof typeof ANSWERS;

/** More messages than one sync brings at once: the rest is a gap. */
const GAP = 60;

/** Kills the operator again and again, and counts what was lost. */
export async function crash(
  ground: Ground,
  { kills, burst = 1, progress = () => {}, patienceMs }: Plan,
): Promise<Figures> {
  const figures: Figures = {
    ...{ kills, joining: 0, before: 0, between: 0, after: 0, commands: 0 },
    ...{ lost: 0, doubled: 0, unreadable: 0, turnedBack: 0, sessions: 0, problems: [] },
  };
  const given: { room: Room; eventId: string; word: Word }[] = [];
  const rooms: Room[] = [];
  const say = async (room: Room, count = burst) => {
    for (let i = 0; i < count; i += 1) {
      const word = given.length % 2 === 0 ? "start" : "stop";
      given.push({ room, word, eventId: await room.say(word) });
    }
  };
  const answered = ({ room, eventId }: typeof given[number]) =>
    answersTo(room.said(), ground.operatorId, eventId).some(({ text }) => text !== "");
  const wait = async (look: () => boolean, what: string) => {
    let late = false;
    const timer = patienceMs === undefined ? undefined : setTimeout(() => (late = true), patienceMs);
    await rooms.at(-1)?.until(() => late || look(), what);
    clearTimeout(timer);
  };
  const allAnswered = () => wait(() => given.every(answered), "answers to all commands");

  const begin = performance.now();
  let life = ground.live();
  await life.ready();
  const startMs = performance.now() - begin;
  let room = await ground.invite();
  rooms.push(room);
  await room.joined();
  await say(room, 2);
  await allAnswered();
  const asked = performance.now();
  await say(room, 2);
  await allAnswered();
  const commandMs = performance.now() - asked;

  for (let kill = 0; kill < kills; kill += 1) {
    progress(kill);
    const joining = kill % 12 === 7;
    if (joining) {
      await allAnswered();
      room = await ground.invite();
      rooms.push(room);
      await elapsed(Math.random() * commandMs);
    } else if (kill % 3 === 1) {
      // Over the start: what was said meanwhile stands behind a gap now and then.
      await life.kill();
      if (kill % 12 === 4) {
        const last = given.at(-1)?.eventId ?? "";
        for (let i = 0; i < GAP; i += 1) await room.murmur(last);
      }
      await say(room);
      life = ground.live();
      await elapsed(Math.random() * 1.5 * startMs);
    } else {
      await life.ready();
      await say(room);
      await elapsed(Math.random() * 1.2 * commandMs);
    }
    await life.kill();
    await room.caughtUp();
    const done = await ground.effects();
    const last = given.at(-1);
    if (joining) figures.joining += 1;
    else if (done < given.length) figures.before += 1;
    else if (last !== undefined && !answered(last)) figures.between += 1;
    else figures.after += 1;
    life = ground.live();
    if (joining) {
      await life.ready();
      await room.joined();
    }
  }
  progress(kills);
  await life.ready();
  await allAnswered();
  // Whatever is said twice has been said before this is answered.
  const fence = await room.say("status");
  await wait(() => answersTo(room.said(), ground.operatorId, fence).some(({ text }) => text !== ""), "the last answer");
  const code = await life.stop();
  if (code !== 0) throw new Error(`The operator ended with code ${code}`);

  figures.commands = given.length;
  count(figures, given, ground.operatorId, await ground.effects());
  for (const each of rooms) {
    await each.caughtUp();
    figures.unreadable += each.said().filter((one) => one.sender === ground.operatorId && !one.readable).length;
    const { faults, sessions } = wireFaults((await each.sent()).filter(({ sender }) => sender === ground.operatorId));
    figures.turnedBack += faults;
    figures.sessions += sessions;
  }
  return figures;
}

/** The figures as one line. */
export function told(figures: Figures): string {
  const { kills, joining, before, between, after, commands, lost, doubled } = figures;
  const { unreadable, turnedBack, sessions, problems } = figures;
  return `${kills} kills (${before} before the effect, ${between} between effect and answer, ${after} after the answer, ` +
    `${joining} while joining), ${commands} commands: ${lost} lost, ${doubled} doubled, ${unreadable} unreadable, ` +
    [`${turnedBack} of ${sessions} ratchets turned back`, ...problems].join("\n  ");
}

/** Each command has one effect, and one answer that says what it did. */
function count(
  figures: Figures,
  given: readonly { readonly room: Room; readonly eventId: string; readonly word: Word }[],
  operatorId: string,
  effects: number,
): void {
  const tally = (lost: number, doubled: number, what: string) => {
    figures.lost += lost;
    figures.doubled += doubled;
    if (lost + doubled > 0) figures.problems.push(what);
  };
  const surplus = (many: number, wanted: number) => Math.max(0, many - wanted);
  const changes = `${effects} changes by ${given.length} commands`;
  tally(surplus(given.length, effects), surplus(effects, given.length), changes);
  given.forEach(({ room, eventId, word }, place) => {
    const answers = answersTo(room.said(), operatorId, eventId);
    const isTold = answers.some(({ text }) => ANSWERS[word].test(text));
    tally(
      Number(!isTold),
      surplus(answers.length, 1),
      `${word}, command ${place + 1}: ${JSON.stringify(answers.map(({ text }) => text))}`,
    );
  });
}

function answersTo(said: readonly Said[], operatorId: string, eventId: string): Said[] {
  return said.filter((one) => one.sender === operatorId && one.about === eventId && one.quiet);
}

/** Lets a random time pass: when the kill comes is the point, and nothing waits for it. */
async function elapsed(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}
