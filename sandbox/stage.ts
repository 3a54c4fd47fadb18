/**
 * What demo and dev put the operator on: a temporary folder, the sandbox homeserver with accounts, and a chat with the
 * operator in the terminal. Knows nothing of the cluster.
 *
 * @module
 */

import { tmpdir } from "node:os";
import { join } from "node:path";
import { Homeserver } from "./homeserver/mod.ts";
import { type Message, Person, withoutAcknowledgement } from "./person/mod.ts";
import { Interrupted, listening, Problem } from "./program.ts";
import { type Bubble, TerminalChat, type View } from "./terminal/mod.ts";

const operatorPassword = crypto.randomUUID();

/** A homeserver and a folder, until it is disposed of. */
export class Stage implements AsyncDisposable {
  /** Folder for everything that is written; removed in the end. */
  readonly folder: string;
  /** The homeserver. */
  readonly homeserver: Homeserver;
  /** User id of the operator. */
  readonly operatorId: string;
  /** The only person whom the operator obeys. */
  readonly personName = "anna";
  /** The agent's account. */
  readonly agentName = "clawd";
  readonly #resources: AsyncDisposableStack;

  private constructor(folder: string, homeserver: Homeserver, resources: AsyncDisposableStack) {
    this.folder = folder;
    this.homeserver = homeserver;
    this.operatorId = homeserver.register("toggle", operatorPassword);
    this.#resources = resources;
  }

  /**
   * Sets it up.
   *
   * @param homeserverPort 0 takes a free one
   * @throws Problem if there is no writing to the temporary folder, or the port is taken
   */
  static async open(homeserverPort: number): Promise<Stage> {
    await using resources = new AsyncDisposableStack();
    const folder = await temporaryFolder();
    resources.defer(() => Deno.remove(folder, { recursive: true }));
    const start = () => new Homeserver({ port: homeserverPort });
    const homeserver = resources.use(
      await listening("the sandbox homeserver", homeserverPort, "homeserver-port", start),
    );
    return new Stage(folder, homeserver, resources.move());
  }

  /** The operator's variables, as far as this stage decides them. */
  get environment(): Record<string, string> {
    return {
      MATRIX_HOMESERVER: this.homeserver.url,
      MATRIX_USER: "toggle",
      MATRIX_PASSWORD: operatorPassword,
      ALLOWED_USERS: `@${this.personName}:${this.homeserver.serverName}`,
      CRYPTO_STORE_PATH: join(this.folder, "store"),
      LOG_FORMAT: "text",
      LOG_LEVEL: "info",
    };
  }

  /** Somebody new, with an account and a phone. */
  async person(name: string): Promise<Person> {
    const password = crypto.randomUUID();
    this.homeserver.register(name, password);
    return await Person.login({ url: this.homeserver.url, user: name, password, crossSigning: true });
  }

  /** Ends the homeserver and removes the folder. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}

/** A chat to be held. */
export interface ChatOptions {
  /** What is in the header. */
  readonly title: string;
  /** What can be done, the longest form that fits. */
  readonly advice: readonly string[];
  /** Somebody who is in the room, too. */
  readonly other?: { readonly userId: string; join(roomId: string): Promise<void> };
  /** Resolves when the operator can be spoken to. */
  readonly ready: Promise<void>;
  /** Is given the chat, to show in it what else there is. */
  readonly decorate: (chat: TerminalChat) => Disposable;
}

/** Demo and dev can chat: both ends are a terminal that can move its cursor. */
export function isTerminal(): boolean {
  return Deno.stdin.isTerminal() && Deno.stdout.isTerminal() && Deno.env.get("TERM") !== "dumb";
}

/**
 * Chats with the operator until the person leaves, or a signal ends it.
 *
 * @param signal its reason is thrown, unless it is the person's or the system's wish
 */
export async function chatInTerminal(stage: Stage, options: ChatOptions, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  await using person = await stage.person(stage.personName);
  const { other } = options;
  const hint = other === undefined ? "type a command" : "type a message, or a command";
  using chat = new TerminalChat({
    title: options.title,
    advice: options.advice,
    messages: [],
    workload: undefined,
    hint: "the operator is starting…",
  }, !Deno.env.get("NO_COLOR"));
  using _decoration = options.decorate(chat);

  let roomId = "";
  let unsent = 0;
  const show = (change: Partial<Omit<View, "typed">> = {}) =>
    chat.show({ messages: bubblesOf(person, person.messages(roomId)), ...change });
  using _listening = person.listen(() => show());
  const broken = new AbortController();
  let turn = (async () => {
    await options.ready;
    const others = [stage.operatorId, ...other === undefined ? [] : [other.userId]];
    roomId = await person.createRoom(others, { name: "Switch" });
    await other?.join(roomId);
    await person.until(() => others.every((each) => person.members(roomId).includes(each)) || undefined);
    show({ hint });
  })();
  turn.catch((error) => broken.abort(error));
  const say = async (text: string) => {
    await person.say(roomId, text);
    unsent -= 1;
    show(unsent === 0 ? { hint } : {});
  };
  try {
    for await (const text of chat.lines(AbortSignal.any([signal, broken.signal]))) {
      unsent += 1;
      chat.show({ hint: "sending…" });
      turn = turn.then(() => say(text));
      turn.catch((error) => broken.abort(error));
    }
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error;
  }
}

/** Messages as they are to be shown, with their reactions beneath them. */
function bubblesOf(person: Person, messages: readonly Message[]): Bubble[] {
  const shown = messages.filter(({ kind }) => ["text", "notice", "emote", "undecryptable"].includes(kind));
  return shown.map((message) => ({
    name: nameFor(person, message.sender),
    mine: message.sender === person.userId,
    time: timeOf(message),
    text: message.kind === "undecryptable" ? "(cannot be decrypted)" : message.body,
    quiet: isAcknowledgement(message),
    encrypted: message.encrypted || message.kind === "undecryptable",
    edited: message.earlier.length > 0,
    reactions: messages.filter(({ kind, about }) => kind === "m.reaction" && about === message.eventId).map((
      { body },
    ) => body),
  }));
}

/** It does no more than acknowledge a command. */
function isAcknowledgement({ kind, body }: Message): boolean {
  return kind === "notice" && withoutAcknowledgement(body) === "";
}

/** What a user is called by people, seen by the person whose phone this is. */
export function nameFor(person: Pick<Person, "userId">, userId: string): string {
  return userId === person.userId ? "you" : nameOf(userId);
}

/** What a user is called by people. */
export function nameOf(userId: string): string {
  return userId.slice(1, userId.indexOf(":"));
}

/** Hour and minute of a message, on this machine's clock. */
export function timeOf({ sentAtMs }: Message): string {
  const date = new Date(sentAtMs);
  return [date.getHours(), date.getMinutes()].map((part) => String(part).padStart(2, "0")).join(":");
}

async function temporaryFolder(): Promise<string> {
  try {
    return await Deno.makeTempDir({ dir: tmpdir(), prefix: "openclaw-toggle-" });
  } catch (error) {
    const reason = error instanceof Error ? error.message : error;
    throw new Problem(`Cannot make a folder in ${tmpdir()}: ${reason}; TMPDIR chooses another place`);
  }
}
