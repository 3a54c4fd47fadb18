/**
 * The sandbox's homeserver as the contract suite sees it.
 *
 * @module
 */
import type { Homeserver } from "../../sandbox/homeserver/mod.ts";
import type { HomeserverUnderTest } from "./homeserver.ts";

/** A running sandbox homeserver, to be tested. */
export function sandboxHomeserver(homeserver: Homeserver): HomeserverUnderTest {
  const { url, serverName } = homeserver;
  const register = (localpart: string, password: string) => {
    homeserver.register(localpart, password);
    return Promise.resolve();
  };
  return { url, serverName, register };
}
