/**
 * Parsers for the values of variables. A parser returns a value or throws {@linkcode InvalidValue}, and never repeats a
 * secret.
 *
 * @module
 */

import { isIPv6 } from "node:net";
import { parse, parseDuration } from "../commands/mod.ts";
import type { Workload } from "../scaler/mod.ts";
import { decodeRecoveryKey } from "./recovery_key.ts";
import { Secret } from "./secret.ts";

/** A value is invalid. */
export class InvalidValue extends Error {
  /** All problems, one line each. */
  readonly problems: readonly string[];

  /** @param problems at least one */
  constructor(...problems: readonly string[]) {
    super(problems.join("; "));
    this.problems = problems;
  }
}

/** Parses a trimmed, non-empty text, or throws {@linkcode InvalidValue}. */
export type Parser<Value> = (text: string) => Value;

/** The homeserver: a base URL without a trailing slash, or a server name that has yet to be resolved. */
export type Homeserver =
  | { readonly kind: "url"; readonly url: string }
  | { readonly kind: "name"; readonly name: string };

/** An address to listen on. */
export interface HttpAddress {
  /** Host name or IP address, without brackets. */
  readonly hostname: string;
  /** Port; 0 for any free one. */
  readonly port: number;
  /** Address to use if this machine lacks the address family. Only set for the default. */
  readonly fallback?: string;
}

/** Quotes a text for a message: truncates it and removes credentials from URLs. */
export function quoted(text: string): string {
  const safe = text.replace(/:\/\/.*@/s, "://[redacted]@");
  return JSON.stringify(safe.length > 80 ? `${safe.slice(0, 80)}…` : safe);
}

/** Formats a problem with a text, and what to use instead. */
export function problemWith(problem: string, text: string, use?: string): string {
  return `${problem} (got ${quoted(text)})${use === undefined ? "" : `; use ${use}`}`;
}

/** Formats alternatives: `a, b or c`. */
function alternatives(words: readonly string[]): string {
  return words.join(", ").replace(/, ([^,]*)$/, " or $1");
}

/** Parses one of some words, ignoring case. Each name in `choices` has a list of words. */
export function oneOf<const Name extends string>(choices: Readonly<Record<Name, readonly string[]>>): Parser<Name> {
  const names = Object.keys(choices) as Name[];
  const words = alternatives(names.flatMap((name) => choices[name]));
  return (text) => {
    const name = names.find((each) => choices[each].includes(text.toLowerCase()));
    if (name === undefined) throw new InvalidValue(problemWith(`must be ${words}`, text));
    return name;
  };
}

/** Accepts text of a certain form. */
export function textOf(what: string, isValid: (text: string) => boolean, use?: string): Parser<string> {
  return (text) => {
    if (!isValid(text)) throw new InvalidValue(problemWith(`not ${what}`, text, use));
    return text;
  };
}

/** Splits a comma-separated list into its items, trimmed and without empty ones. There must be at least one. */
export function itemsOf(text: string, use: string): string[] {
  const items = text.split(",").map((item) => item.trim()).filter((item) => item !== "");
  if (items.length === 0) throw new InvalidValue(problemWith("empty list", text, use));
  return items;
}

/** Parses a comma-separated list and checks each item. Drops duplicates. */
export function listOf(what: string, isValid: (item: string) => boolean, use: string): Parser<readonly string[]> {
  return (text) => {
    const items = [...new Set(itemsOf(text, use))];
    const wrong = items.filter((item) => !isValid(item));
    if (wrong.length > 0) throw new InvalidValue(...wrong.map((item) => problemWith(`not ${what}`, item, use)));
    return Object.freeze(items);
  };
}

/** Parses a whole number within bounds. `or` names a word that the caller accepts instead. */
export function wholeNumber(min: number, max: number, or?: string): Parser<number> {
  const allowed = `a whole number from ${min} to ${max}${or === undefined ? "" : `, or ${or}`}`;
  return (text) => {
    const number = /^\d+$/.test(text) ? Number(text) : NaN;
    if (!(number >= min && number <= max)) throw new InvalidValue(problemWith(`must be ${allowed}`, text));
    return number;
  };
}

/** Parses a duration from `leastMs` to `mostMs` milliseconds. `use` describes that to people. */
export function duration({ leastMs = 1, mostMs, use }: {
  readonly leastMs?: number;
  readonly mostMs: number;
  readonly use: string;
}): Parser<number> {
  return (text) => {
    const milliseconds = parseDuration(text);
    if (milliseconds === undefined) throw new InvalidValue(problemWith("not a duration", text, use));
    if (milliseconds < leastMs) throw new InvalidValue(problemWith("too short", text, use));
    if (milliseconds > mostMs) throw new InvalidValue(problemWith("too long", text, use));
    return milliseconds;
  };
}

/** Decodes a secret of 32 bytes in base64, in either alphabet, with or without padding. */
export function secretKey(text: string): Secret<Uint8Array> {
  const base64 = text.replaceAll("-", "+").replaceAll("_", "/").replace(/={1,2}$/, "");
  if (!/^[A-Za-z0-9+/]+$/.test(base64) || base64.length % 4 === 1) {
    throw new InvalidValue("not base64; use 32 bytes in base64");
  }
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  if (bytes.length !== 32) throw new InvalidValue(`${bytes.length} bytes long; use 32 bytes in base64`);
  return new Secret(bytes);
}

/** Decodes a recovery key. */
export function recoveryKey(text: string): Secret<Uint8Array<ArrayBuffer>> {
  const key = decodeRecoveryKey(text);
  if ("wrong" in key) throw new InvalidValue(`not a recovery key: ${key.wrong}`);
  return new Secret(key);
}

/** A user's master key. The user id may contain `=` too: the key follows the last `=` that isn't padding. */
export type TrustedIdentity = readonly [userId: string, masterKey: string];

const identityList = listOf(
  "@user:server=<key>",
  (item) => identityOf(item) !== undefined,
  "the user's public master key, 43 characters of base64",
);

/**
 * Parses users and their public master keys (unpadded base64, 32 bytes each), each user once. An empty text has none.
 */
export function trustedIdentities(text: string): readonly TrustedIdentity[] {
  const identities = new Map<string, string>();
  for (const item of text === "" ? [] : identityList(text)) {
    const [userId, masterKey] = identityOf(item) ?? [item, item];
    if ((identities.get(userId) ?? masterKey) !== masterKey) {
      throw new InvalidValue(problemWith("two keys for one user", userId, "one of them"));
    }
    identities.set(userId, masterKey);
  }
  return Object.freeze([...identities].map((identity) => Object.freeze(identity)));
}

function identityOf(item: string): TrustedIdentity | undefined {
  const [, userId = "", masterKey = ""] = /^(.*)=([A-Za-z0-9+/]{42}[AEIMQUYcgkosw048])=?$/.exec(item) ?? [];
  return isUserId(userId) ? [userId, masterKey] : undefined;
}

/**
 * Whether a text is a Matrix server name: host or IP address, with or without a port (Matrix spec v1.16, appendices,
 * 4.1).
 */
export function isServerName(text: string): boolean {
  const [, name = "", port] = /^(\[[^\]]*\]|[^:]*)(?::(\d{1,5}))?$/.exec(text) ?? [];
  if (Number(port ?? 0) > 65_535) return false;
  return name.startsWith("[") ? isIPv6(name.slice(1, -1)) : /^[A-Za-z0-9.-]{1,230}$/.test(name);
}

/**
 * Whether a text is a full user id, including historical ones: anything but a colon, a space or a control character
 * before the server name (Matrix spec v1.16, appendices, 4.2.1). Commas are not accepted, because they separate the
 * items of our lists.
 */
export function isUserId(text: string): boolean {
  const [, server] = /^@[^:,\s\p{Cc}\p{Cs}]+:(.*)$/u.exec(text) ?? [];
  return server !== undefined && isServerName(server) && isShortEnough(text);
}

/** Whether a text is a full user id or a localpart. */
export function isUser(text: string): boolean {
  return text.startsWith("@") ? isUserId(text) : isUserId(`@${text}:server`);
}

/**
 * Whether a text is a room id, including those of room version 12 without a server name, or a room alias (Matrix spec
 * v1.16, appendices, 4.2).
 */
export function isRoom(text: string): boolean {
  const [, server] = /^[!#][^:,\s\p{Cc}\p{Cs}]+:(.*)$/u.exec(text) ?? [];
  if (server === undefined) return /^![\w-]{43}$/.test(text);
  return isServerName(server) && isShortEnough(text);
}

/** Ids of users and rooms have at most 255 bytes. */
function isShortEnough(identifier: string): boolean {
  return new TextEncoder().encode(identifier).length <= 255;
}

/** Whether a text is a namespace name (Kubernetes, object names, RFC 1123 label). */
export function isLabel(text: string): boolean {
  return /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(text);
}

/** Whether a text is a Deployment name (Kubernetes, object names, RFC 1123 subdomain). */
export function isSubdomain(text: string): boolean {
  return text.length <= 253 && text.split(".").every((part) => /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$/.test(part));
}

/** Parses an http or https URL without credentials, query and fragment. Removes trailing slashes. */
export function url(text: string): string {
  return urlOf(text, "an http or https URL");
}

function urlOf(text: string, allowed: string): string {
  const parsed = /^https?:\/\//i.test(text) ? URL.parse(text) : null;
  if (parsed === null) throw new InvalidValue(problemWith(`must be ${allowed}`, text));
  if (parsed.username !== "" || parsed.password !== "") {
    throw new InvalidValue("must be a URL without user name and password");
  }
  if (/[?#]/.test(text)) throw new InvalidValue("must be a URL without query and fragment");
  return parsed.href.replace(/\/+$/, "");
}

/** Parses a {@linkcode url} or a server name. */
export function homeserver(text: string): Homeserver {
  if (isServerName(text)) return Object.freeze({ kind: "name", name: text });
  return Object.freeze({ kind: "url", url: urlOf(text, "an http or https URL, or a server name") });
}

/** Parses `host:port` or `[IPv6]:port`; `off` yields undefined. */
export function httpAddress(text: string): HttpAddress | undefined {
  if (text.toLowerCase() === "off") return undefined;
  const [, host, port] = /^(.+):(\d+)$/.exec(text) ?? [];
  if (host === undefined || !isServerName(text)) {
    throw new InvalidValue(problemWith("must be host:port, [IPv6]:port or off", text));
  }
  return Object.freeze({ hostname: host.replace(/^\[|\]$/g, ""), port: Number(port) });
}

/** A workload that can be turned on and off. */
export interface Target extends Workload {
  /** Name that people use for it. */
  readonly alias: string;
}

/** Parses comma-separated targets, the default one first. Reports every invalid one. */
export function targets(text: string): readonly Target[] {
  const found = new Map<string, Target>();
  const problems: string[] = [];
  for (const item of itemsOf(text, "alias=namespace/name")) {
    const target = targetOf(item);
    if (typeof target === "string") problems.push(problemWith(target, item));
    else if (found.has(target.alias)) problems.push(problemWith("alias is taken by another target", item));
    else if ([...found.values()].some((other) => workloadOf(other) === workloadOf(target))) {
      problems.push(problemWith("second alias for the same workload", item));
    } else found.set(target.alias, target);
  }
  if (problems.length > 0) throw new InvalidValue(...problems);
  return Object.freeze([...found.values()]);
}

/**
 * Parses a target, or returns what is wrong with it. Aliases begin with a letter, so that none can be taken for a
 * duration.
 */
function targetOf(item: string): Target | string {
  const [, alias = "", place = ""] = /^([^=]*)=(.*)$/.exec(item) ?? [];
  const parts = place.split("/").map((part) => part.trim());
  const [kind = "", namespace = "", name = ""] = parts.length === 2 ? ["deployment", ...parts] : parts;
  if (parts.length > 3 || (kind !== "deployment" && kind !== "statefulset")) {
    return "must be alias=namespace/name or alias=statefulset/namespace/name";
  }
  if (!/^[a-z][a-z0-9-]*$/.test(alias)) {
    return "alias must be lower-case letters, digits and hyphens, with a letter first";
  }
  if (alias === "all" || parse(alias, [], []).kind === "command") return "alias must not be a command word";
  if (!isLabel(namespace)) return "namespace must be a DNS label";
  if (!isSubdomain(name)) return "name must be a DNS subdomain";
  return Object.freeze({ alias, kind, namespace, name });
}

/** User id of an agent and the alias of its target; undefined for the default one. */
export interface AgentEntry {
  readonly alias: string | undefined;
  readonly userId: string;
}

const agentList = listOf(
  "@user:server or alias=@user:server",
  (item) => isUserId(splitAlias(item).rest),
  "a full user ID",
);

/** Parses comma-separated agents. An empty text has none. The caller checks that their targets exist. */
export function agents(text: string): readonly AgentEntry[] {
  if (text === "") return Object.freeze([]);
  return Object.freeze(
    agentList(text).map((item) => {
      const { alias, rest: userId } = splitAlias(item);
      return Object.freeze({ alias, userId });
    }),
  );
}

/**
 * Splits an item into an optional `alias=` and the rest. A user id may contain `=` too, but no alias begins with `@`.
 */
export function splitAlias(item: string): { readonly alias: string | undefined; readonly rest: string } {
  const [, alias, rest = item] = /^([^@=]*)=(.*)$/s.exec(item) ?? [];
  return { alias: alias?.trim(), rest: rest.trim() };
}

function workloadOf({ kind, namespace, name }: Target): string {
  return `${kind}/${namespace}/${name}`;
}
