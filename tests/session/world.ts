/**
 * What the session's tests stand on: a homeserver of the sandbox, a person, and a session over a store in a folder of
 * its own, opened and closed as often as a test likes.
 *
 * @module
 */

import { operatorPolicy, sleep } from "../../lib/async.ts";
import { type Login, Secret } from "../../lib/config/mod.ts";
import {
  type Answer,
  type InboxEvent,
  openSession,
  type OpenSessionOptions,
  type Payload,
  type RefusedEvent,
  type Session,
} from "../../lib/session/mod.ts";
import { openStore, type Store } from "../../lib/store/mod.ts";
import { Homeserver } from "../../sandbox/homeserver/mod.ts";
import { Person } from "../../sandbox/person/mod.ts";

export const never: AbortSignal = new AbortController().signal;

/** A homeserver with an account for the operator, `@toggle:localhost`, and a folder for its store. */
export class World implements AsyncDisposable {
  readonly homeserver: Homeserver;
  readonly folder: string = Deno.makeTempDirSync();
  /** A lost device's login ends softly first. */
  softly = false;
  /** How the steps of opening a session are tried: once, unless a test says otherwise. */
  retry: OpenSessionOptions["retry"] = (step, signal) => step(signal);
  /** By which address the operator knows the homeserver, if not by its own. */
  url: string | undefined;
  /** From so many failures in a row on, a session ends, however soon they come; never, unless a test says otherwise. */
  maxFailures = Infinity;
  /** Keys go only to devices that their owners have signed. */
  onlySignedDevices = false;
  /** The operator's clock, milliseconds since the epoch. */
  now: () => number = () => Date.now();
  /** How the operator logs in. */
  login: Login = { method: "password", user: "toggle", password: new Secret("secret") };
  readonly #people: Person[] = [];

  constructor(homeserver = new Homeserver()) {
    this.homeserver = homeserver;
    this.homeserver.register("toggle", "secret");
  }

  person(name: string, options: { crossSigning?: boolean } = {}): Promise<Person> {
    this.homeserver.register(name, "pw");
    return this.phoneOf(name, "pw", options);
  }

  async phoneOf(name: string, password: string, options: { crossSigning?: boolean } = {}): Promise<Person> {
    const person = await Person.login({ url: this.homeserver.url, user: name, password, ...options });
    this.#people.push(person);
    return person;
  }

  /** Opens the store and a session over it, without syncing yet. */
  async open(): Promise<Running> {
    const store = await openStore({ folder: this.folder, holder: { host: "test", pid: Deno.pid } });
    try {
      await store.openCrypto();
      return new Running(store, await this.openSession(store), this.maxFailures);
    } catch (error) {
      await store.close();
      throw error;
    }
  }

  openSession(store: Store, login = this.login): Promise<Session> {
    return openSession({
      homeserver: this.url ?? this.homeserver.url,
      login,
      store,
      allowedUsers: new Set(["@alice:localhost"]),
      agents: new Set(["@clawd:localhost"]),
      onlySignedDevices: this.onlySignedDevices,
      now: () => this.now(),
      retry: this.retry,
      onWait: () => {},
    }, never);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const person of this.#people) await person[Symbol.asyncDispose]();
    await this.homeserver[Symbol.asyncDispose]();
    await Deno.remove(this.folder, { recursive: true });
  }
}

/** A session that may sync, with what it says of itself. */
export class Running implements AsyncDisposable {
  readonly store: Store;
  readonly session: Session;
  readonly #end = new AbortController();
  readonly #watchers = new Set<() => void>();
  /** Rooms and sessions for which keys were announced. */
  readonly keys: [roomId: string, sessionId: string][] = [];
  /** Whether what is told of a history that was cut off is taken. */
  isReady = true;
  /** Rooms whose history was cut off. */
  readonly cutOff: string[] = [];
  /** Messages of strangers. */
  readonly refused: RefusedEvent[] = [];
  /** Who wrote in rooms where agents are. */
  readonly active: string[] = [];
  /** Which agents are typing, by room. */
  readonly typing = new Map<string, readonly string[]>();
  /** Whose devices were said to have changed. */
  readonly changed = new Set<string>();
  /** Who asked to verify us. */
  readonly askedToVerify: string[] = [];
  #running: Promise<void> | undefined;

  readonly #maxFailures: number;

  constructor(store: Store, session: Session, maxFailures = Infinity) {
    this.store = store;
    this.session = session;
    this.#maxFailures = maxFailures;
  }

  /** Begins to sync; failures are waited out without waiting. `synced` is told of each response. */
  sync(synced: () => void = () => {}): this {
    const changed = (): void => this.#watchers.forEach((look) => look());
    this.#running = this.session.run(
      {
        eventsArrived: changed,
        refused: (event) => {
          this.refused.push(event);
          changed();
        },
        agentRoomsActive: ({ messages, typing }) => {
          this.active.push(...messages.map(({ sender }) => sender));
          for (const [roomId, agents] of typing) this.typing.set(roomId, agents);
          changed();
        },
        roomsChanged: changed,
        historyCutOff: (roomId) => {
          if (this.isReady) this.cutOff.push(roomId);
          changed();
          return this.isReady;
        },
        devicesChanged: (users) => {
          for (const user of users) this.changed.add(user);
          changed();
        },
        verificationAsked: (user) => this.askedToVerify.push(user),
        keyArrived: (roomId, sessionId) => {
          this.keys.push([roomId, sessionId]);
          changed();
        },
      },
      () => {
        synced();
        changed();
      },
      {
        policy: { ...operatorPolicy(this.#maxFailures), minSpanMs: 0 },
        onWait: () => {},
        sleep: (_, signal) => sleep(1, signal),
      },
      this.#end.signal,
    );
    this.#running.catch((error) => this.#watchers.forEach((look) => (this.#failure = error, look())));
    return this;
  }
  #failure: unknown;

  /** Waits until `look` finds something, after each time that the session tells of a change. */
  until<T>(look: () => T | undefined): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const tooLate = setTimeout(() => reject(new Error("it did not come about within 60 s")), 60_000);
    const watcher = (): void => {
      if (this.#failure !== undefined) return reject(this.#failure);
      const found = look();
      if (found !== undefined) resolve(found);
    };
    this.#watchers.add(watcher);
    watcher();
    return promise.finally(() => {
      clearTimeout(tooLate);
      this.#watchers.delete(watcher);
    });
  }

  /** Waits until the room is joined and its history since then is known. */
  async joined(roomId: string): Promise<void> {
    await this.until(() => this.session.invitations().some((each) => each.roomId === roomId) || undefined);
    await this.session.join(roomId, never);
    await this.until(() => this.session.joinedRooms().includes(roomId) || undefined);
  }

  /** Makes an encrypted room of a person and the operator, in which both see each other. Returns its id. */
  async roomWith(person: Person): Promise<string> {
    const roomId = await person.createRoom([this.session.self]);
    await this.joined(roomId);
    await person.until(() => person.members(roomId, "join").length === 2 || undefined);
    return roomId;
  }

  /** Has somebody who was invited join, and waits until that is known here, too. */
  async joinedBy(person: Person, roomId: string): Promise<void> {
    await person.until(() => person.invitations.has(roomId) || undefined);
    await person.join(roomId);
    await this.until(() => this.store.rooms.isJoined(roomId, person.userId) || undefined);
  }

  /** Events that may be handled now. */
  events(): InboxEvent[] {
    return this.store.journal.unsettled(0).map(({ event }) => event);
  }

  /** Waits for so many events and reads them. */
  async read(howMany: number): Promise<Payload[]> {
    const events = await this.until(() => this.events().length >= howMany ? this.events() : undefined);
    return await Promise.all(events.map((event) => this.session.read(event, never)));
  }

  say(roomId: string, text: string, transactionId: string = crypto.randomUUID()): Promise<string> {
    const answer: Answer = {
      kind: "answer",
      sequence: 0,
      roomId,
      eventId: "$command",
      form: "notice",
      text: { plain: text },
      reply: false,
    };
    return this.session.send(transactionId, answer, undefined, never);
  }

  /** Ends the syncing. */
  async end(): Promise<void> {
    this.#end.abort(new DOMException("end of the test", "AbortError"));
    await this.#running?.catch((error) => {
      if (error?.name !== "AbortError") throw error;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
    this.session[Symbol.dispose]();
    await this.store.close();
  }
}
