/**
 * What demo and dev share: a temporary folder, the sandbox homeserver with accounts, and a chat with the operator in
 * the terminal.
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

/** A homeserver and a folder, until disposed of. */
export class Stage implements AsyncDisposable {
  /** Temporary folder; removed at the end. */
  readonly folder: string;
  readonly homeserver: Homeserver;
  readonly operatorId: string;
  /** The only allowed user. */
  readonly personName = "anna";
  /** Account of the agent. */
  readonly agentName = "clawd";
  readonly #resources: AsyncDisposableStack;

  private constructor(folder: string, homeserver: Homeserver, resources: AsyncDisposableStack) {
    this.folder = folder;
    this.homeserver = homeserver;
    this.operatorId = homeserver.register("toggle", operatorPassword);
    this.#resources = resources;
  }

  /**
   * Creates folder, homeserver and accounts.
   *
   * @param homeserverPort 0 for a free port
   * @throws Problem if the temporary folder isn't writable or the port is taken
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

  /** The operator's variables for this homeserver and folder. */
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

  /** Creates an account and logs in with it. */
  async person(name: string): Promise<Person> {
    const password = crypto.randomUUID();
    this.homeserver.register(name, password);
    return await Person.login({ url: this.homeserver.url, user: name, password, crossSigning: true });
  }

  /** Stops the homeserver and removes the folder. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}

export interface ChatOptions {
  /** Title in the header. */
  readonly title: string;
  /** Advice on what to type, from the longest form to the shortest. The first that fits is shown. */
  readonly advice: readonly string[];
  /** Another member of the room. */
  readonly other?: { readonly userId: string; join(roomId: string): Promise<void> };
  /** Resolves when the operator is ready. */
  readonly ready: Promise<void>;
  /** Gets the chat, to show more in it. */
  readonly decorate: (chat: TerminalChat) => Disposable;
}

/** Whether demo and dev can chat: stdin and stdout are a terminal with cursor control. */
export function isTerminal(): boolean {
  return Deno.stdin.isTerminal() && Deno.stdout.isTerminal() && Deno.env.get("TERM") !== "dumb";
}

/**
 * Chats with the operator until the user leaves or the signal aborts.
 *
 * @param signal its reason is thrown, unless the user or the system has asked to stop
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

/** Converts messages for the view, with reactions below them. */
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

/** Whether a message only acknowledges a command. */
function isAcknowledgement({ kind, body }: Message): boolean {
  return kind === "notice" && withoutAcknowledgement(body) === "";
}

/** Returns the name of a user from this person's point of view. */
export function nameFor(person: Pick<Person, "userId">, userId: string): string {
  return userId === person.userId ? "you" : nameOf(userId);
}

/** Returns the short name of a user. */
export function nameOf(userId: string): string {
  return userId.slice(1, userId.indexOf(":"));
}

/** Returns hour and minute of a message in local time. */
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
