/**
 * What a row of the table of variables is.
 *
 * @module
 */

import type { Parser } from "./parsers.ts";

/** What is around the environment: where the program runs, and how it reads a file. */
export interface Context {
  /** The program runs in a pod. */
  readonly inCluster: boolean;
  /** The log goes to a terminal. */
  readonly terminal: boolean;
  /** Reads a text file; throws if it can't. */
  readFile(path: string): string;
}

/** One row of the table. */
export interface Variable<Value> {
  /** Name in the environment. */
  readonly name: string;
  /** The Python operator's name for it, used where ours is not set. */
  readonly otherName?: string;
  /** It is never shown, and may be given as the path of a file in `NAME_FILE`. */
  readonly secret?: true;
  /** What holds when it is not set: a text that is read like a given one, or nothing. Without it: required. */
  readonly default?: string | ((context: Context) => string) | "nothing";
  /** With these ways to log in it is required, in spite of its default of nothing. */
  readonly requiredFor?: readonly AuthMethod[];
  /** The default in words, where it isn't simply the text. */
  readonly defaultInWords?: string;
  /** What may be given. */
  readonly permitted: string;
  /** What it is for. */
  readonly meaning: string;
  /** Reads a given text; for a default of nothing it is not called, and the value is undefined. */
  readonly parse: Parser<Value>;
}

/** Ways to log in. */
export type AuthMethod = "password" | "token" | "jwt" | "sso";
