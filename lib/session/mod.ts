/**
 * Matrix: login, sync, encryption, rooms, sending. {@linkcode Session} is one login.
 *
 * @module
 */

export type { BackoffPolicy, Clock } from "../async.ts";
export type { Json } from "../json.ts";
export type * from "./facts.ts";
/** Loads the Rust crypto's WebAssembly, once. Called early, it compiles beside the first steps of a start. */
export { initAsync as loadCrypto } from "@matrix-org/matrix-sdk-crypto-wasm";
export { type AboutHomeserver, aboutHomeserver, findHomeserver } from "./discovery.ts";
export type { IdentityState } from "./cross_signing.ts";
export { type LoggedIn, tryLogin, whileLoggedIn } from "./login.ts";
export { SecretStorage } from "./secret_storage.ts";
export { openSession, type OpenSessionOptions, replaceStoreKey } from "./connect.ts";
export {
  type ClientOptions,
  HomeserverClient,
  type JsonAnswer,
  type Request,
  type TokenRenewal,
} from "./homeserver_client.ts";
export type { HttpRequest, HttpResponse } from "../http.ts";
export type { RestoreDetection } from "./restore_detection.ts";
export { Session } from "./session.ts";
export type { HomeserverRetryOptions } from "./sync_loop.ts";
