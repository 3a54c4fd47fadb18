/**
 * Matrix: login, sync, encryption, rooms, sending. {@linkcode Session} is one login.
 *
 * @module
 */

export type { Pace } from "./chores.ts";
export type { Json } from "../json.ts";
export type * from "./facts.ts";
export { findHomeserver, homeserverVersions } from "./homeserver.ts";
export type { IdentityState } from "./identity.ts";
export { type LoggedIn, tryLogin } from "./login.ts";
export { openSession, type SessionOptions } from "./open.ts";
export { type Request, Requests, TokenRefused } from "./request.ts";
export { Session } from "./session.ts";
