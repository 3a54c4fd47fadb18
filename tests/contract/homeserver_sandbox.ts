/**
 * The sandbox's homeserver as the contract suite sees it.
 *
 * @module
 */
import type { Homeserver } from "../../sandbox/homeserver/mod.ts";
import type { HomeserverUnderTest } from "./homeserver.ts";

/** How long its refreshable access tokens are valid, milliseconds. */
export const refreshableMs = 2_000;

/** A running sandbox homeserver with tokens of that life, to be tested. */
export function sandboxHomeserver(homeserver: Homeserver): HomeserverUnderTest {
  const { url, serverName } = homeserver;
  const register = (localpart: string, password: string) => {
    homeserver.register(localpart, password);
    return Promise.resolve();
  };
  return { url, serverName, refreshableMs, register };
}
