/**
 * The endpoints: maps methods and paths to handlers.
 *
 * @module
 */
import type { Session } from "./accounts.ts";
import { clientEvent, page } from "./events.ts";
import { forbidden, type JsonObject, MatrixError, notFound, objectOf, textIn } from "./protocol.ts";
import type { Room } from "./rooms.ts";
import { type Provider, SingleSignOn } from "./sso.ts";
import { type Sources, sync } from "./sync.ts";

/** A request, as handlers see it. */
export interface Call {
  /** Path parameters by name. */
  readonly path: Readonly<Record<string, string>>;
  /** Query parameters. */
  readonly query: URLSearchParams;
  /** JSON body; empty if there is none. */
  readonly body: JsonObject;
  /** Complete URL of the request. */
  readonly url: URL;
  /** Value of the Cookie header; empty if there is none. */
  readonly cookies: string;
  /** Sender of the request. */
  readonly session: Session;
  /** Aborts long polls. */
  readonly signal: AbortSignal;
}

export interface Endpoint {
  readonly method: string;
  /** Path with parameters in braces, without `/_matrix/client/v3`. */
  readonly template: string;
  /** Whether it needs no access token. */
  readonly open: boolean;
  /** Returns a JSON body or a Response, or throws a MatrixError. */
  readonly answer: (call: Call) => JsonObject | Response | Promise<JsonObject>;
}

/** Finds the endpoint of a request and the parameters of its path; undefined if there is none. */
export type Router = (method: string, path: string) => { endpoint: Endpoint; path: Record<string, string> } | undefined;

const versions = ["v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10", "v1.11"];

/**
 * Creates the router of a homeserver.
 *
 * @param sources data of the homeserver
 * @param baseUrl returns its own address
 * @param provider identity provider for single sign-on
 */
export function makeRouter(sources: Sources, baseUrl: () => string, provider?: Provider): Router {
  const { accounts, rooms, keys, inbox, now } = sources;
  const answered = new Map<string, JsonObject>();
  const endpoints: { endpoint: Endpoint; pattern: RegExp }[] = [];

  function on(line: string, answer: Endpoint["answer"], open = false): void {
    const [method = "", template = ""] = line.split(" ");
    const pattern = new RegExp(`^${template.replaceAll(/\{(\w+)\}/g, "(?<$1>[^/]*)")}$`);
    endpoints.push({ endpoint: { method, template, open, answer }, pattern });
  }
  /** Makes a device's transaction idempotent: a repetition gets the first response again. */
  const once = ({ path, session }: Call, template: string, act: () => JsonObject) => {
    const key = JSON.stringify([session.user.userId, session.deviceId, template, path]);
    const answer = answered.get(key) ?? act();
    answered.set(key, answer);
    return answer;
  };
  const member = (userId: string) => ({ displayname: accounts.find(userId)?.displayName ?? userId.slice(1) });
  const viewer = ({ user, deviceId }: Session) => ({ userId: user.userId, deviceId, nowMs: now() });
  const roomOf = ({ path, session }: Call) => rooms.of(session.user.userId, path["roomId"] ?? "");
  const pastRoomOf = ({ path, session }: Call) => rooms.of(session.user.userId, path["roomId"] ?? "", true);
  const own = ({ path, session }: Call) => {
    if (path["userId"] !== session.user.userId) throw forbidden("Not your own user");
    return session.user;
  };
  const forget = (userId: string, deviceId: string) => {
    accounts.deleteDevice(userId, deviceId);
    keys.deleteDevice(userId, deviceId);
    inbox.deleteDevice(userId, deviceId);
  };
  const move = (room: Room, sender: string, target: string, membership: string, body: JsonObject) => {
    const shown = membership === "leave" ? {} : member(target);
    const reason = body["reason"] === undefined ? {} : { reason: body["reason"] };
    return room.setMembership(sender, target, membership, { ...shown, ...reason });
  };

  on("GET /_matrix/client/versions", () => ({ versions, unstable_features: {} }), true);
  on("GET /_matrix/federation/v1/version", () => ({ server: { name: "sandbox", version: "1" } }), true);
  on("GET /.well-known/matrix/client", () => ({ "m.homeserver": { base_url: baseUrl() } }), true);

  const flows = ["m.login.password", "m.login.token", "org.matrix.login.jwt"].map((type) => ({ type }));
  const issue = (username: string) => accounts.issueLoginToken(accounts.named(username).userId);
  const signOn = provider && new SingleSignOn(provider, baseUrl, issue);
  on("GET /login", () => ({ flows: signOn ? [...flows, signOn.flow] : flows }), true);
  if (signOn) {
    on("GET /login/sso/redirect/{idpId}", ({ path, url }) => signOn.redirect(path["idpId"] ?? "", url), true);
    on("GET /_synapse/client/oidc/callback", ({ query, cookies }) => signOn.callback(query, cookies), true);
  }
  on("POST /login", ({ body }) => accounts.login(body), true);
  on("POST /refresh", ({ body }) => accounts.refresh(body), true);
  on("GET /account/whoami", ({ session }) => {
    return { user_id: session.user.userId, device_id: session.deviceId, is_guest: false };
  });
  on("POST /logout", ({ session }) => {
    forget(session.user.userId, session.deviceId);
    return {};
  });

  const shownDevice = (session: Session, deviceId: string) => {
    const name = session.user.devices.get(deviceId);
    if (name === undefined) throw notFound("No device found");
    return { device_id: deviceId, display_name: name, user_id: session.user.userId };
  };
  on("GET /devices", ({ session }) => {
    return { devices: [...session.user.devices.keys()].map((deviceId) => shownDevice(session, deviceId)) };
  });
  on("GET /devices/{deviceId}", ({ session, path }) => shownDevice(session, path["deviceId"] ?? ""));
  on("DELETE /devices/{deviceId}", ({ session, path, body }) => {
    accounts.requirePassword(session.user, body);
    forget(session.user.userId, path["deviceId"] ?? "");
    return {};
  });

  on("POST /user/{userId}/filter", (call) => ({ filter_id: String(own(call).filters.push(call.body) - 1) }));
  on("GET /user/{userId}/filter/{filterId}", (call) => {
    const filter = own(call).filters[Number(call.path["filterId"])];
    if (filter === undefined) throw notFound("No such filter");
    return filter;
  });
  on("GET /user/{userId}/account_data/{type}", (call) => {
    const stored = own(call).accountData.get(call.path["type"] ?? "");
    if (stored === undefined) throw notFound("Account data not found");
    return stored.content;
  });
  on("PUT /user/{userId}/account_data/{type}", (call) => {
    accounts.setAccountData(own(call), call.path["type"] ?? "", call.body);
    return {};
  });
  const profile = ({ path }: Call) => ({ displayname: accounts.get(path["userId"] ?? "").displayName });
  on("GET /profile/{userId}", profile, true);
  on("GET /profile/{userId}/displayname", profile, true);
  on("PUT /profile/{userId}/displayname", (call) => {
    const { userId } = own(call);
    accounts.get(userId).displayName = textIn(call.body, "displayname");
    const joined = rooms.all().filter((room) => room.membership(userId) === "join");
    for (const room of joined) move(room, userId, userId, "join", {});
    return {};
  });

  on("GET /sync", ({ session, query, signal }) => sync(sources, session, query, signal));

  on("POST /createRoom", ({ session, body }) => {
    return { room_id: rooms.create(session.user.userId, body, member).roomId };
  });
  const join = ({ session, path, body }: Call) => {
    const room = rooms.resolve(path["roomId"] ?? "");
    const { userId } = session.user;
    if (room.membership(userId) !== "join") move(room, userId, userId, "join", body);
    return { room_id: room.roomId };
  };
  on("POST /join/{roomId}", join);
  on("POST /rooms/{roomId}/join", join);
  on("POST /rooms/{roomId}/leave", ({ session, path, body }) => {
    const { userId } = session.user;
    const room = rooms.resolve(path["roomId"] ?? "");
    const left = room.everMembers().includes(userId) && room.membership(userId) === "leave";
    if (!left) move(room, userId, userId, "leave", body);
    return {};
  });
  for (const [verb, membership] of [["invite", "invite"], ["kick", "leave"]] as const) {
    on(`POST /rooms/{roomId}/${verb}`, (call) => {
      move(roomOf(call), call.session.user.userId, textIn(call.body, "user_id"), membership, call.body);
      return {};
    });
  }
  on("GET /joined_rooms", ({ session }) => {
    const joined = rooms.all().filter((room) => room.membership(session.user.userId) === "join");
    return { joined_rooms: joined.map(({ roomId }) => roomId) };
  });
  on("GET /directory/room/{alias}", ({ path }) => {
    return { room_id: rooms.resolve(path["alias"] ?? "").roomId, servers: [] };
  }, true);

  on("PUT /rooms/{roomId}/send/{type}/{transactionId}", (call) => {
    const { user, deviceId } = call.session;
    const { type = "", transactionId = "" } = call.path;
    const transaction = { userId: user.userId, deviceId, id: transactionId };
    const event = { type, sender: user.userId, content: call.body, transaction };
    return once(call, "send", () => ({ event_id: roomOf(call).send(event).event_id }));
  });
  on("PUT /rooms/{roomId}/typing/{userId}", (call) => {
    roomOf(call).setTyping(own(call).userId, call.body["typing"] === true);
    return {};
  });
  on("GET /rooms/{roomId}/event/{eventId}", (call) => {
    const room = pastRoomOf(call);
    const event = room.timeline.find(({ event_id }) => event_id === call.path["eventId"]);
    if (event === undefined || !room.visible(call.session.user.userId, event)) throw notFound("Event not found.");
    return { ...clientEvent(room, event, viewer(call.session)), room_id: room.roomId };
  });
  const setState = (call: Call) => {
    const { type = "", stateKey = "" } = call.path;
    const sender = call.session.user.userId;
    if (type === "m.room.member") {
      const room = rooms.resolve(call.path["roomId"] ?? "");
      return { event_id: room.setMembership(sender, stateKey, textIn(call.body, "membership"), call.body).event_id };
    }
    return { event_id: roomOf(call).send({ type, sender, state_key: stateKey, content: call.body }).event_id };
  };
  const getState = (call: Call) => {
    const { type, stateKey = "" } = call.path;
    const event = pastRoomOf(call).stateFor(call.session.user.userId)
      .find((each) => each.type === type && each.state_key === stateKey);
    if (event === undefined) throw notFound("Event not found.");
    return event.content;
  };
  for (const tail of ["", "/", "/{stateKey}"]) {
    on(`PUT /rooms/{roomId}/state/{type}${tail}`, setState);
    on(`GET /rooms/{roomId}/state/{type}${tail}`, getState);
  }
  on("GET /rooms/{roomId}/state", (call) => {
    const room = pastRoomOf(call);
    const events = room.stateFor(call.session.user.userId).map((event) =>
      clientEvent(room, event, viewer(call.session))
    );
    return events as unknown as JsonObject;
  });
  on("GET /rooms/{roomId}/members", (call) => {
    const room = pastRoomOf(call);
    const [wanted, unwanted] = [call.query.get("membership"), call.query.get("not_membership")];
    const chunk = room.stateFor(call.session.user.userId).filter(({ type, content }) => {
      const { membership } = content;
      return type === "m.room.member" && (wanted ?? membership) === membership && membership !== unwanted;
    });
    return {
      chunk: chunk.map((event) => ({ ...clientEvent(room, event, viewer(call.session)), room_id: room.roomId })),
    };
  });
  on("GET /rooms/{roomId}/joined_members", (call) => {
    const joined = roomOf(call).members("join").map((userId) => [userId, { display_name: member(userId).displayname }]);
    return { joined: Object.fromEntries(joined) };
  });
  on("GET /rooms/{roomId}/messages", (call) => page(pastRoomOf(call), call.query, viewer(call.session)));

  on("PUT /sendToDevice/{type}/{transactionId}", (call) =>
    once(call, "sendToDevice", () => {
      const devicesOf = (userId: string) => [...accounts.find(userId)?.devices.keys() ?? []];
      inbox.send(call.session.user.userId, call.path["type"] ?? "", objectOf(call.body["messages"]), devicesOf);
      return {};
    }));
  on("POST /keys/upload", ({ session, body }) => keys.upload(session.user.userId, session.deviceId, body));
  on("POST /keys/query", ({ session, body }) => {
    const nameOf = (userId: string, deviceId: string) => accounts.find(userId)?.devices.get(deviceId);
    return keys.query(session.user.userId, body, nameOf);
  });
  on("POST /keys/claim", ({ body }) => keys.claim(body));
  on("POST /keys/device_signing/upload", ({ session, body }) => {
    if (keys.replacesIdentity(session.user.userId, body)) accounts.requirePassword(session.user, body);
    keys.setIdentity(session.user.userId, body);
    return {};
  });
  on("POST /keys/signatures/upload", ({ session, body }) => keys.sign(session.user.userId, body));

  return (method, fullPath) => {
    const path = fullPath.replace(/^\/_matrix\/client\/(v3|r0|v1|unstable)(?=\/)/, "");
    const found = endpoints.filter(({ pattern }) => pattern.test(path));
    const right = found.find(({ endpoint }) => endpoint.method === method);
    if (right === undefined) {
      if (found.length > 0) throw new MatrixError(405, "M_UNRECOGNIZED", "Unrecognized request");
      return undefined;
    }
    const named = Object.entries(right.pattern.exec(path)?.groups ?? {});
    return {
      endpoint: right.endpoint,
      path: Object.fromEntries(named.map(([key, value]) => [key, decodeURIComponent(value)])),
    };
  };
}
