/**
 * Users with phones, for tests. They chat through matrix-nio, whose encryption shares no code with the operator's.
 * `person.py` does the encryption. Requests that need none go directly to the homeserver.
 *
 * @module
 */

import { join } from "node:path";
import { httpJson } from "./network.ts";
import { Child } from "./process.ts";
import { type Content, type SeenEvent, Watch } from "./watch.ts";

/** Options for sending an event. */
export interface RawOptions {
  /** Whether to encrypt it. Default: as the room requires. */
  readonly encrypted?: boolean;
  /** Content outside the ciphertext, such as `m.relates_to`. */
  readonly outside?: Content;
}

/** Options for sending a text. */
export interface TextOptions {
  /** Whether to encrypt it. Default: as the room requires. */
  readonly encrypted?: boolean;
  /** User ids to mention (`m.mentions`). */
  readonly mentions?: readonly string[];
  /** The text as HTML. */
  readonly formatted?: string;
  /** Id of the event to reply to. */
  readonly replyTo?: string;
  /** Id of the event to replace. */
  readonly edit?: string;
}

/** The process that hosts the phones. */
export class Phones implements AsyncDisposable {
  readonly #child: Child;
  readonly #homeserver: string;
  readonly #persons = new Map<string, Person>();
  readonly #requests = new Map<number, PromiseWithResolvers<unknown>>();
  readonly #reading: Promise<void>;
  #lastId = 0;

  /**
   * Starts the process. No user is logged in yet.
   *
   * @param python interpreter of an environment with matrix-nio
   * @param homeserver base URL
   * @param logFile receives its error output
   */
  constructor(python: string, homeserver: string, logFile: string) {
    this.#homeserver = homeserver;
    this.#child = new Child({
      name: "the phones",
      command: [python, join(import.meta.dirname ?? ".", "person.py")],
      logFile,
      pipeOutput: true,
    });
    this.#reading = this.#read();
  }

  /**
   * Logs a user in, on a new device.
   *
   * @param syncing whether it syncs from then on; if not, it only publishes its keys and sees nothing
   */
  async login(localpart: string, password: string, syncing = true): Promise<Person> {
    const homeserver = this.#homeserver;
    const name = `${localpart}#${this.#lastId + 1}`;
    const parameters = { person: name, homeserver, user: localpart, password, syncing };
    const session = await this.request("login", parameters) as Session;
    const person = new Person(this, name, homeserver, session);
    this.#persons.set(name, person);
    return person;
  }

  /**
   * Sends a request to the process.
   *
   * @param op name of the operation
   * @param parameters parameters of the operation
   * @throws Error with the process' error
   */
  async request(op: string, parameters: Content): Promise<unknown> {
    const id = ++this.#lastId;
    const answer = Promise.withResolvers<unknown>();
    this.#requests.set(id, answer);
    await this.#child.write(JSON.stringify({ ...parameters, id, op }));
    return await answer.promise;
  }

  /** Ends the process. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child.kill();
    await this.#reading;
  }

  async #read(): Promise<void> {
    let rest = "";
    for await (const text of this.#child.output.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) this.#take(JSON.parse(line));
    }
    const ended = new Error(`Cannot ask the phones: their process has ended\n${await this.#child.tail()}`);
    for (const request of this.#requests.values()) request.reject(ended);
  }

  #take(line: { person: string; event: SeenEvent } | { id: number; result?: unknown; error?: string }): void {
    if ("event" in line) return this.#persons.get(line.person)?.see(line.event);
    const request = this.#requests.get(line.id);
    this.#requests.delete(line.id);
    if (line.error === undefined) request?.resolve(line.result);
    else request?.reject(new Error(`Cannot do what the phone was asked for: ${line.error}`));
  }
}

interface Session {
  readonly userId: string;
  readonly deviceId: string;
  readonly accessToken: string;
}

/** A user with a phone. */
export class Person {
  /** User id. */
  readonly userId: string;
  /** Device id of the phone. */
  readonly deviceId: string;
  readonly #phones: Phones;
  readonly #name: string;
  readonly #api: string;
  readonly #authorization: string;
  readonly #watches = new Set<Watch>();

  /** Use {@linkcode Phones.login}. */
  constructor(phones: Phones, name: string, homeserver: string, session: Session) {
    this.userId = session.userId;
    this.deviceId = session.deviceId;
    this.#phones = phones;
    this.#name = name;
    this.#api = `${homeserver}/_matrix/client/v3`;
    this.#authorization = `Bearer ${session.accessToken}`;
  }

  /**
   * Sends a request to the homeserver.
   *
   * @param path below `/_matrix/client/v3`
   * @throws HttpError if the request fails
   */
  // deno-lint-ignore no-explicit-any
  request(method: string, path: string, body?: unknown): Promise<any> {
    return httpJson(method, `${this.#api}${path}`, { authorization: this.#authorization, body });
  }

  /** Creates a room, encrypted by default, and invites users. Returns its id. */
  async createRoom(options: { invite?: readonly string[]; encrypted?: boolean; name?: string } = {}): Promise<string> {
    const encryption = { type: "m.room.encryption", content: { algorithm: "m.megolm.v1.aes-sha2" } };
    const { room_id } = await this.request("POST", "/createRoom", {
      preset: "private_chat",
      invite: options.invite ?? [],
      initial_state: options.encrypted === false ? [] : [encryption],
      ...(options.name ? { name: options.name } : {}),
    });
    await this.untilJoined(room_id, [this.userId]);
    return room_id;
  }

  /** Invites a user. */
  async invite(roomId: string, userId: string): Promise<void> {
    await this.request("POST", `/rooms/${encodeURIComponent(roomId)}/invite`, { user_id: userId });
  }

  /**
   * Joins a room.
   *
   * @param seen whether to wait until the phone shows it
   */
  async join(roomId: string, seen = true): Promise<void> {
    await this.request("POST", `/rooms/${encodeURIComponent(roomId)}/join`, {});
    if (seen) await this.untilJoined(roomId, [this.userId]);
  }

  /** Leaves a room. */
  async leave(roomId: string): Promise<void> {
    await this.request("POST", `/rooms/${encodeURIComponent(roomId)}/leave`, {});
  }

  /** Waits until the phone shows all of these users as joined. Before that it doesn't encrypt for them. */
  async untilJoined(roomId: string, users: readonly string[], deadlineMs = 10_000): Promise<void> {
    await this.#wait("waitJoined", { roomId, users, deadlineMs }, `see ${users.join(", ")} join`);
  }

  /** Waits until the phone knows exactly these devices of a user. Before that it doesn't encrypt for them. */
  async untilKnown(userId: string, devices: readonly string[], deadlineMs = 10_000): Promise<void> {
    await this.#wait("waitDevices", { userId, devices, deadlineMs }, `know ${devices.join(", ")} of ${userId}`);
  }

  async #wait(op: string, parameters: Content & { readonly deadlineMs: number }, what: string): Promise<void> {
    try {
      await this.#phones.request(op, { ...parameters, person: this.#name });
    } catch (cause) {
      throw new Error(`${this.userId} does not ${what} within ${parameters.deadlineMs} ms`, { cause });
    }
  }

  /** Sends an event, encrypted by default. Returns its id. */
  async sendRaw(roomId: string, type: string, content: Content, options: RawOptions = {}): Promise<string> {
    const event = options.encrypted === false ? { type, content } : await this.encrypt(roomId, type, content);
    const path = `/rooms/${encodeURIComponent(roomId)}/send/${event.type}/${crypto.randomUUID()}`;
    return (await this.request("PUT", path, { ...event.content, ...options.outside })).event_id;
  }

  /** Encrypts an event for everyone in the room, to be sent unchanged with {@linkcode Person.sendRaw}. */
  async encrypt(roomId: string, type: string, content: Content): Promise<{ type: string; content: Content }> {
    const event = await this.#phones.request("encrypt", { person: this.#name, roomId, type, content });
    return event as { type: string; content: Content };
  }

  /** Sends a user the key of a room's latest session, which another user created, as if it were this user's own. */
  async forwardRoomKey(roomId: string, userId: string): Promise<void> {
    await this.#phones.request("handOver", { person: this.#name, roomId, userId });
  }

  /** Sends a text. Returns its event id. */
  async sendText(roomId: string, body: string, options: TextOptions = {}): Promise<string> {
    const text = {
      msgtype: "m.text",
      body,
      ...(options.formatted ? { format: "org.matrix.custom.html", formatted_body: options.formatted } : {}),
      ...(options.mentions ? { "m.mentions": { user_ids: options.mentions } } : {}),
    };
    const content = options.edit
      ? {
        ...text,
        body: `* ${body}`,
        "m.new_content": text,
        "m.relates_to": { rel_type: "m.replace", event_id: options.edit },
      }
      : { ...text, ...(options.replyTo ? { "m.relates_to": { "m.in_reply_to": { event_id: options.replyTo } } } : {}) };
    return await this.sendRaw(roomId, "m.room.message", content, { encrypted: options.encrypted ?? true });
  }

  /** Watches a room from now on. */
  watch(roomId: string): Watch {
    const watch = new Watch(`${this.userId} in ${roomId}`, roomId, () => this.#watches.delete(watch));
    this.#watches.add(watch);
    return watch;
  }

  /** Called by {@linkcode Phones} with each event that the phone shows. */
  see(event: SeenEvent): void {
    for (const watch of this.#watches) watch.see(event);
  }
}
