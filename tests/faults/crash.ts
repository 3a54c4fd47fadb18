/**
 * The crash suite: whole conversations during which the operator is killed at random moments, and the checks at the
 * end. Servers and phones come from a {@linkcode CrashFixture}: the sandbox's or real ones.
 *
 * @module
 */

import { type Sent, wireFaults } from "./wire.ts";

/** A message in a room, from anyone. */
export interface RoomMessage {
  /** Event ID. */
  readonly eventId: string;
  /** User ID. */
  readonly sender: string;
  /** ID of the event that it replies to. */
  readonly about: string | undefined;
  /** The first answer after the acknowledgement of the command. Empty until then. */
  readonly text: string;
  /** Whether it is a notice, which doesn't notify phones. */
  readonly quiet: boolean;
  /** Whether it could be decrypted. */
  readonly readable: boolean;
}

/** A room of the person and the operator. */
export interface Room {
  /** Sends a text. Returns its event ID. */
  say(text: string): Promise<string>;
  /** Sends something that is neither a command nor answered. */
  sendChatter(about: string): Promise<void>;
  /** Returns the messages that the person sees. */
  messages(): readonly RoomMessage[];
  /** Waits until `look` returns true. Checks whenever the person sees something new. */
  until(look: () => boolean, what: string): Promise<void>;
  /** Waits until the operator has joined. */
  joined(): Promise<void>;
  /** Waits until the person sees everything that was sent. */
  caughtUp(): Promise<void>;
  /** Returns all encrypted events of the room, as the homeserver stores them, oldest first. */
  sent(): Promise<readonly Sent[]>;
}

/** One process of the operator. */
export interface OperatorRun {
  /** Waits until it is ready. */
  ready(): Promise<void>;
  /** Kills it, and waits until it is dead. */
  kill(): Promise<unknown>;
  /** Stops it. Returns its exit code. */
  stop(): Promise<number>;
}

/** Servers, a person, and an operator that can be started repeatedly. */
export interface CrashFixture {
  /** User ID of the operator. */
  readonly operatorId: string;
  /** Starts the operator. */
  startOperator(): OperatorRun;
  /** Creates a room and invites the operator. */
  invite(): Promise<Room>;
  /** Returns how often the target's replica count has changed. */
  effects(): Promise<number>;
}

/** Results of {@linkcode crash}. */
export interface Figures {
  readonly kills: number;
  /** Kills while a room was being joined and no command was in progress. */
  joining: number;
  /** Kills before the last command took effect. */
  before: number;
  /** Kills between the effect and the answer. */
  between: number;
  /** Kills after the answer. */
  after: number;
  /** Commands sent. */
  commands: number;
  /** Commands without an effect, or without an answer that reports it. */
  lost: number;
  /** Surplus effects and answers. */
  doubled: number;
  /** Messages of the operator that couldn't be decrypted. */
  unreadable: number;
  /** Message indices that were reused or out of order. */
  turnedBack: number;
  /** Outbound sessions seen. */
  sessions: number;
  /** Descriptions of what was lost or doubled. */
  readonly problems: string[];
}

/** Options of {@linkcode crash}. */
export interface Plan {
  /** Number of kills. */
  readonly kills: number;
  /** Commands sent at once. */
  readonly burst?: number;
  /** For controls: what is missing after this time, in milliseconds, counts as lost. Without it, that is an error. */
  readonly patienceMs?: number;
  /** Called with the number of kills so far. */
  readonly progress?: (kills: number) => void;
}

const ANSWERS = { start: /^\S+ is on\b/, stop: /^\S+ is off\b/ } as const;
type Word = keyof typeof ANSWERS;

/** More messages than one sync returns, so that the rest is a gap. */
const GAP = 60;

/** Kills the operator repeatedly and counts what was lost. */
export async function crash(
  fixture: CrashFixture,
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
    answersTo(room.messages(), fixture.operatorId, eventId).some(({ text }) => text !== "");
  const wait = async (look: () => boolean, what: string) => {
    let late = false;
    const timer = patienceMs === undefined ? undefined : setTimeout(() => (late = true), patienceMs);
    await rooms.at(-1)?.until(() => late || look(), what);
    clearTimeout(timer);
  };
  const allAnswered = () => wait(() => given.every(answered), "answers to all commands");

  const begin = performance.now();
  let operator = fixture.startOperator();
  await operator.ready();
  const startMs = performance.now() - begin;
  let room = await fixture.invite();
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
      room = await fixture.invite();
      rooms.push(room);
      await elapsed(Math.random() * commandMs);
    } else if (kill % 3 === 1) {
      // Kills during startup. Sometimes what was sent meanwhile is behind a gap.
      await operator.kill();
      if (kill % 12 === 4) {
        const last = given.at(-1)?.eventId ?? "";
        for (let i = 0; i < GAP; i += 1) await room.sendChatter(last);
      }
      await say(room);
      operator = fixture.startOperator();
      await elapsed(Math.random() * 1.5 * startMs);
    } else {
      await operator.ready();
      await say(room);
      await elapsed(Math.random() * 1.2 * commandMs);
    }
    await operator.kill();
    await room.caughtUp();
    const done = await fixture.effects();
    const last = given.at(-1);
    if (joining) figures.joining += 1;
    else if (done < given.length) figures.before += 1;
    else if (last !== undefined && !answered(last)) figures.between += 1;
    else figures.after += 1;
    operator = fixture.startOperator();
    if (joining) {
      await operator.ready();
      await room.joined();
    }
  }
  progress(kills);
  await operator.ready();
  await allAnswered();
  // Its answer comes after anything that would be said twice.
  const fence = await room.say("status");
  await wait(
    () => answersTo(room.messages(), fixture.operatorId, fence).some(({ text }) => text !== ""),
    "the last answer",
  );
  const code = await operator.stop();
  if (code !== 0) throw new Error(`The operator ended with code ${code}`);

  figures.commands = given.length;
  count(figures, given, fixture.operatorId, await fixture.effects());
  for (const each of rooms) {
    await each.caughtUp();
    figures.unreadable += each.messages().filter((one) => one.sender === fixture.operatorId && !one.readable).length;
    const { faults, sessions } = wireFaults((await each.sent()).filter(({ sender }) => sender === fixture.operatorId));
    figures.turnedBack += faults;
    figures.sessions += sessions;
  }
  return figures;
}

/** Formats the figures as one line. */
export function summary(figures: Figures): string {
  const { kills, joining, before, between, after, commands, lost, doubled } = figures;
  const { unreadable, turnedBack, sessions, problems } = figures;
  return `${kills} kills (${before} before the effect, ${between} between effect and answer, ${after} after the answer, ` +
    `${joining} while joining), ${commands} commands: ${lost} lost, ${doubled} doubled, ${unreadable} unreadable, ` +
    [`${turnedBack} of ${sessions} ratchets turned back`, ...problems].join("\n  ");
}

/** Counts violations: each command must have one effect, and one answer that reports it. */
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
  given.forEach(({ room, eventId, word }, index) => {
    const answers = answersTo(room.messages(), operatorId, eventId);
    const isTold = answers.some(({ text }) => ANSWERS[word].test(text));
    tally(
      Number(!isTold),
      surplus(answers.length, 1),
      `${word}, command ${index + 1}: ${JSON.stringify(answers.map(({ text }) => text))}`,
    );
  });
}

function answersTo(said: readonly RoomMessage[], operatorId: string, eventId: string): RoomMessage[] {
  return said.filter((one) => one.sender === operatorId && one.about === eventId && one.quiet);
}

/** Waits for a random time, not for an event, because the moment of the kill must be random. */
async function elapsed(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}
