/**
 * The sandbox's homeserver as the contract suite sees it.
 *
 * @module
 */
import type { Homeserver } from "../../sandbox/homeserver/mod.ts";
import type { HomeserverUnderTest } from "./homeserver.ts";

/** How long its refreshable access tokens are valid, milliseconds: longer than any machine takes to use one. */
export const refreshableMs = 10_000;

/** The sandbox's clock, which is set forward in place of waiting. */
export class SandboxClock {
  #aheadMs = 0;

  readonly now = (): number => Date.now() + this.#aheadMs;

  advance(ms: number): void {
    this.#aheadMs += ms;
  }
}

/** A running sandbox homeserver with tokens of that life, by that clock, to be tested. */
export function sandboxHomeserver(
  homeserver: Homeserver,
  clock: SandboxClock = new SandboxClock(),
): HomeserverUnderTest {
  const { url, serverName } = homeserver;
  const register = (localpart: string, password: string) => {
    homeserver.register(localpart, password);
    return Promise.resolve();
  };
  const letPass = (ms: number) => {
    clock.advance(ms);
    return Promise.resolve();
  };
  return { url, serverName, refreshableMs, letPass, register };
}
