/**
 * The demo's scripted conversation, for use without a terminal. Checks every answer and the state of the cluster.
 *
 * @module
 */

import type { Agent } from "./agent.ts";
import type { Homeserver } from "./homeserver/mod.ts";
import type { KubernetesSandbox, WorkloadView } from "./kubernetes/mod.ts";
import { firstAnswer, type Message, type Person } from "./person/mod.ts";
import { Problem } from "./program.ts";
import { nameFor, nameOf, timeOf } from "./stage.ts";

/** Participants and places of the conversation. */
export interface Cast {
  /** An allowed user. */
  readonly person: Person;
  /** A user in the same room who isn't allowed. */
  readonly stranger: Person;
  /** The agent that runs in the Deployment. */
  readonly agent: Agent;
  readonly operatorId: string;
  /** Encrypted room of person, stranger and operator. */
  readonly roomId: string;
  /** Encrypted room of person, agent and operator. */
  readonly agentRoomId: string;
  readonly homeserver: Homeserver;
  /** The cluster with the target. */
  readonly kubernetes: KubernetesSandbox;
}

/** Longest waits, also on a slow machine. */
const answerWithinMs = 60_000;
const readyWithinMs = 60_000;

/**
 * Plays the conversation and prints it line by line.
 *
 * @throws Problem at the first unexpected answer or state of the cluster
 */
export async function playScript(cast: Cast, print: (line: string) => void = console.log): Promise<void> {
  const { person, stranger, agent, operatorId, roomId, agentRoomId, kubernetes } = cast;
  using _listening = person.listen((message) => print(lineOf(person, message)));
  using _watching = printChanges(kubernetes, print);

  await wakes("good morning");
  await ask("toggle: status", /sleeps after 30 min without a message/, 1, agentRoomId);
  await ask("toggle: stop", /is off/, 0, agentRoomId);
  await ask("status", /is (off|stopping)/, 0);
  const start = await ask("start", /is on \(1 replica\)/, 1);
  // The pod takes 2.5 s to start. A slow machine may take longer to answer.
  await ask("status", /is starting: 0\/1 ready|is running: 1\/1 ready/, 1);
  await untilReady(kubernetes);
  await edited(start, /is ready \(took \d+ s\)/);
  await ask("status", /is running: 1\/1 ready/, 1);
  await ignores("stop");
  await ask("status", /is running: /, 1);
  await ask("stop", /is off/, 0);
  await ignores("start");
  await ask("status", /is (off|stopping)/, 0);
  checkStranger();
  print(checkWire(cast.homeserver));

  async function ask(text: string, expected: RegExp, replicas: number, where = roomId): Promise<string> {
    const said = await person.say(where, text);
    const first = await person.until(() => answersTo(said).map(firstAnswer).at(0), answerWithinMs).catch(() => {
      throw new Problem(`✘ "${text}" was not answered within ${answerWithinMs / 1_000} s`);
    });
    if (!expected.test(first)) throw new Problem(`✘ "${text}" was answered with "${first}", not with ${expected}`);
    const { desired } = workload(kubernetes);
    if (desired !== replicas) throw new Problem(`✘ after "${text}" the replicas are ${desired}, not ${replicas}`);
    return said;
  }

  /** Sends a message to the sleeping agent. The operator starts it, and it answers. */
  async function wakes(text: string): Promise<void> {
    const said = await person.say(agentRoomId, text);
    const answered = () =>
      person.messages(agentRoomId).find(({ sender, body }) => sender === agent.userId && body.endsWith(text));
    await person.until(answered, readyWithinMs).catch(() => {
      throw new Problem(`✘ ${nameOf(agent.userId)} did not answer "${text}" within ${readyWithinMs / 1_000} s`);
    });
    await person.until(() => answersTo(said).find(({ body }) => /is ready \(took/.test(body)), answerWithinMs).catch(
      () => {
        throw new Problem(`✘ the operator did not tell that it has woken ${nameOf(agent.userId)}`);
      },
    );
    print(`✔ ${nameOf(agent.userId)} was asleep, and a message woke it`);
  }

  /** Waits for an edit of the answer. */
  async function edited(said: string, expected: RegExp): Promise<void> {
    await person.until(() => answersTo(said).find(({ body }) => expected.test(body)), answerWithinMs).catch(() => {
      throw new Problem(`✘ the answer to "start" was not edited into ${expected}`);
    });
  }

  /** Commands of a room are handled in order, so the next answer proves that there is none to this one. */
  async function ignores(text: string): Promise<void> {
    const { desired } = workload(kubernetes);
    const said = await stranger.say(roomId, text);
    await person.until(() => person.messages(roomId).find(({ eventId }) => eventId === said), answerWithinMs);
    if (workload(kubernetes).desired !== desired) throw new Problem(`✘ the stranger's "${text}" was obeyed`);
  }

  function checkStranger(): void {
    const said = person.messages(roomId).filter(({ sender }) => sender === stranger.userId);
    const answered = said.find(({ eventId }) => person.messages(roomId).some(({ about }) => about === eventId));
    if (answered !== undefined) throw new Problem(`✘ the stranger's "${answered.body}" was answered`);
    print(`✔ ${nameOf(stranger.userId)}, whom the operator does not know, was ignored ${said.length} times`);
  }

  function answersTo(eventId: string): Message[] {
    return person.messages().filter((message) =>
      message.sender === operatorId && message.about === eventId && message.kind === "notice"
    );
  }
}

/** Checks that the homeserver has seen ciphertext only. */
function checkWire({ requests }: Homeserver): string {
  const types = requests.entries.filter(({ method, status }) => method === "PUT" && status === 200)
    .flatMap(({ path }) => /\/rooms\/[^/]+\/send\/([^/]+)\//.exec(path)?.[1] ?? []);
  const clear = types.filter((type) => type !== "m.room.encrypted");
  const encrypted = types.length - clear.length;
  if (clear.length > 0 || encrypted === 0) {
    throw new Problem(`✘ on the wire: ${encrypted} messages encrypted, ${clear.length} in clear (${clear.join(", ")})`);
  }
  return `✔ the homeserver saw ${encrypted} messages, ${encrypted} of them m.room.encrypted, 0 in clear`;
}

async function untilReady(kubernetes: KubernetesSandbox): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const look = () => workload(kubernetes).ready === 1 && resolve();
  const late = new Problem(`✘ the Deployment is not ready after ${readyWithinMs / 1_000} s`);
  const timer = setTimeout(() => reject(late), readyWithinMs);
  using _watching = kubernetes.onChange(look);
  look();
  await promise.finally(() => clearTimeout(timer));
}

function printChanges(kubernetes: KubernetesSandbox, print: (line: string) => void): Disposable {
  let last = "";
  return kubernetes.onChange(() => {
    const { name, desired, ready, pods } = workload(kubernetes);
    const states = pods.map(({ state }) => state).join(", ") || "none";
    const line = `         cluster  ${name} ${ready}/${desired} ready, pods: ${states}`;
    if (line !== last) print(line);
    last = line;
  });
}

function workload(kubernetes: KubernetesSandbox): WorkloadView {
  const [only] = kubernetes.workloads();
  if (only === undefined) throw new Error("Cannot look at the Deployment: there is none");
  return only;
}

function lineOf(person: Person, message: Message): string {
  const sign = message.earlier.length > 0 ? "✎ " : "";
  const name = nameFor(person, message.sender).padEnd(8);
  const body = message.body.replaceAll("\n", `\n${" ".repeat(18)}`);
  return `${timeOf(message)} ${message.encrypted ? "🔒" : "!!"} ${name} ${sign}${body}`;
}
