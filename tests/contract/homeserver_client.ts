/**
 * A bare client for the contract suite: requests, syncs and fresh users. Knows nothing of what is relied on.
 *
 * @module
 */
import assert from "node:assert/strict";

/** A homeserver to be tested. JWT login is on, with the shared secret `for-tests`. */
export interface HomeserverUnderTest {
  /** Base URL. */
  readonly url: string;
  /** Domain of user ids. */
  readonly serverName: string;
  /** How long access tokens are valid that come with a refresh token, milliseconds: short, as that is waited for. */
  readonly refreshableMs: number;
  /** Lets time pass on it, milliseconds. */
  letPass(ms: number): Promise<void>;
  /** Adds a user. */
  register(localpart: string, password: string): Promise<void>;
}

/** Something that is relied on. */
export interface ContractCase {
  /** What is relied on. */
  readonly name: string;
  /** Synapse's own, not the specification's or not everywhere: why the operator gets by without it. */
  readonly synapseOnly?: string;
  /** Throws if it does not hold. */
  readonly run: (world: World) => Promise<void>;
}

// deno-lint-ignore no-explicit-any -- bodies are looked into by assertions, which is what checks their shape.
export type Body = any;

/** An answer. */
export interface Answer {
  /** HTTP status. */
  readonly status: number;
  /** JSON body. */
  readonly body: Body;
}

/** How to sync. */
export interface SyncWish {
  /** Token. */
  readonly since?: string;
  /** Longest wait, milliseconds. */
  readonly timeout?: number;
  /** Filter id, or a filter. */
  readonly filter?: unknown;
  /** Wants all state. */
  readonly full_state?: boolean;
}

/** The password of every user. */
export const password = "correct horse";

/** One user on one device. */
export class Client {
  /** Where to ask. */
  readonly server: HomeserverUnderTest;
  /** User id. */
  readonly userId: string;
  /** Device id. */
  readonly deviceId: string;
  /** Access token; empty for nobody. */
  readonly token: string;

  /** A client of a session; of nobody without one. */
  constructor(server: HomeserverUnderTest, { user_id = "", device_id = "", access_token = "" }: Body = {}) {
    this.server = server;
    this.userId = user_id;
    this.deviceId = device_id;
    this.token = access_token;
  }

  /** Asks, and returns whatever comes. Paths are below /_matrix/client/v3 unless they begin with /_ or /. and a dot. */
  async ask(method: string, path: string, body?: unknown): Promise<Answer> {
    const full = /^\/[_.]/.test(path) ? path : `/_matrix/client/v3${path}`;
    const response = await fetch(this.server.url + full, {
      method,
      headers: { "content-type": "application/json", ...(this.token && { authorization: `Bearer ${this.token}` }) },
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
    return { status: response.status, body: await response.json() };
  }

  /** Asks, and wants success. */
  async get(method: string, path: string, body?: unknown): Promise<Body> {
    const { status, body: answer } = await this.ask(method, path, body);
    assert.equal(status, 200, `${method} ${path}: ${JSON.stringify(answer)}`);
    return answer;
  }

  /** Asks, and wants to be refused in just this way. */
  async refused(status: number, code: string, method: string, path: string, body?: unknown): Promise<Body> {
    const answer = await this.ask(method, path, body);
    assert.deepEqual([answer.status, answer.body.errcode], [status, code], `${method} ${path}`);
    return answer.body;
  }

  /** Syncs once. */
  sync({ since, timeout = 0, filter, full_state }: SyncWish = {}): Promise<Body> {
    const query = new URLSearchParams({ timeout: String(timeout) });
    if (since !== undefined) query.set("since", since);
    if (filter !== undefined) query.set("filter", typeof filter === "string" ? filter : JSON.stringify(filter));
    if (full_state) query.set("full_state", "true");
    return this.get("GET", `/sync?${query}`);
  }

  /** Syncs on from a token until something is there, for a minute at most. */
  async syncUntil<T>(since: string, look: (body: Body) => T | undefined): Promise<{ found: T; next: string }> {
    const deadline = performance.now() + 60_000;
    for (let token = since; performance.now() < deadline;) {
      const body = await this.sync({ since: token, timeout: 1_000 });
      const found = look(body);
      if (found !== undefined) return { found, next: body.next_batch };
      token = body.next_batch;
    }
    throw new Error("Cannot find it in any sync: a minute is over");
  }

  /** Makes a room; `invite` and `preset` as in the body. */
  async createRoom(body: Body = {}): Promise<string> {
    return (await this.get("POST", "/createRoom", { preset: "private_chat", ...body })).room_id;
  }

  /** Sends a text. */
  async say(roomId: string, body: string, transactionId: string = crypto.randomUUID()): Promise<string> {
    const content = { msgtype: "m.text", body };
    const path = `/rooms/${encodeURIComponent(roomId)}/send/m.room.message/${transactionId}`;
    return (await this.get("PUT", path, content)).event_id;
  }
}

/** Sends a request; where the homeserver asks for the password first (user-interactive authentication), gives it. */
export async function withPassword(client: Client, method: string, path: string, body: Body): Promise<Body> {
  const first = await client.ask(method, path, body);
  if (first.status === 200) return first.body;
  assert.equal(first.status, 401);
  assert.ok(first.body.flows.some(({ stages }: Body) => stages.join() === "m.login.password"));
  const identifier = { type: "m.id.user", user: client.userId };
  const auth = { type: "m.login.password", session: first.body.session, identifier, password };
  return await client.get(method, path, { ...body, auth });
}

/** Looks again, for a minute at most, until an assertion holds: some homeservers tell a moment later. */
export async function eventually(holds: () => Promise<void>): Promise<void> {
  const deadline = performance.now() + 60_000;
  for (;;) {
    const failure = await holds().then(() => undefined, (error) => error instanceof Error ? error : new Error(error));
    if (failure === undefined) return;
    if (performance.now() > deadline) throw failure;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Fresh users on a homeserver. */
export class World {
  /** The homeserver. */
  readonly server: HomeserverUnderTest;

  /** @param server the homeserver */
  constructor(server: HomeserverUnderTest) {
    this.server = server;
  }

  /** A client of nobody. */
  nobody(): Client {
    return new Client(this.server);
  }

  /** A new user, logged in. */
  async user(prefix = "user"): Promise<Client> {
    const localpart = `${prefix}-${crypto.randomUUID().slice(0, 8)}`;
    await this.server.register(localpart, password);
    return await this.login(localpart);
  }

  /** A new user in a new room with another one, who has made it. */
  async together(body: Body = {}): Promise<{ owner: Client; guest: Client; roomId: string }> {
    const [owner, guest] = [await this.user("owner"), await this.user("guest")];
    const roomId = await owner.createRoom({ invite: [guest.userId], ...body });
    await guest.get("POST", `/rooms/${encodeURIComponent(roomId)}/join`, {});
    // Some homeservers tell of it a moment later.
    for (const client of [owner, guest]) {
      const first = await client.sync();
      const isKnown = (body: Body) => {
        const { state, timeline } = body.rooms?.join?.[roomId] ?? {};
        const events: Body[] = [...state?.events ?? [], ...timeline?.events ?? []];
        return events.some(({ state_key, content }) => state_key === guest.userId && content.membership === "join") ||
          undefined;
      };
      if (isKnown(first) === undefined) await client.syncUntil(first.next_batch, isKnown);
    }
    return { owner, guest, roomId };
  }

  /** A further login of a user. */
  async login(user: string, more: Body = {}): Promise<Client> {
    const body = { type: "m.login.password", identifier: { type: "m.id.user", user }, password, ...more };
    return new Client(this.server, await this.nobody().get("POST", "/login", body));
  }
}

/** The texts in a list of events, in their order. */
export function textsIn(events: Body[]): string[] {
  return events.filter(({ type }) => type === "m.room.message").map(({ content }) => content.body);
}
