/**
 * Environment in, one frozen configuration out, or every problem at once. Touches neither the real environment nor the
 * disk: both are handed in.
 *
 * @module
 */

import { ConfigError, errorMessage } from "../errors.ts";
import type { Secret } from "./secret.ts";
import type { UpTime } from "./up_times.ts";
import { quoted, type Target, Unfit } from "./values.ts";
import { type Context, ROWS, type Settings, type Variable, VARIABLES } from "./variables.ts";

/** The whole configuration, frozen. Times are milliseconds, and their names end in `Ms`. */
export type Config = Omit<Settings, "targets" | "deploymentName" | "deploymentNamespace" | "schedule" | "agents"> & {
  /** What is switched, the default one first; at least one. */
  readonly targets: readonly Target[];
  /** When targets are up, each time with its target's alias; targets without one have no schedule. */
  readonly schedule: readonly TargetUpTime[];
  /** Agents, each of one target; a target may have several. */
  readonly agents: readonly Agent[];
  /** How to log in, with all that belongs to that way. */
  readonly login: Login;
  /** What is odd but no error, one line each: to be logged. */
  readonly warnings: readonly string[];
};

/** When a target is up. */
export interface TargetUpTime extends UpTime {
  /** The target's. */
  readonly alias: string;
}

/** An agent that runs in a target. */
export interface Agent {
  /** The target's. */
  readonly alias: string;
  /** Its Matrix account. */
  readonly userId: string;
}

/** An environment, as `Deno.env.toObject()` gives it. */
export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Reads the configuration. Values are trimmed, and empty ones count as unset.
 *
 * @throws ConfigError with one line for each problem: the variable, what was given (never a secret), what is allowed
 */
export function readConfig(env: Environment, context: Context): Config {
  const problems: string[] = [];
  const settings = Object.entries(VARIABLES).map(([key, variable]) => {
    try {
      return [key, valueOf(variable, env, context)];
    } catch (error) {
      if (!(error instanceof Unfit)) throw error;
      problems.push(...error.problems);
      return [key, undefined];
    }
  });
  // A value for each row, of the type that the row's parser yields: this is how Settings is defined.
  const read = Object.fromEntries(settings) as Settings;
  const targets = targetsOf(read, env);
  problems.push(...strangers(read), ...rivals(env), ...missing(read, env));
  problems.push(...withoutTarget(read, targets), ...wrongAgents(read, targets), ...withoutAgent(read));
  const defaultAlias = targets[0]?.alias ?? "";
  const misspelt = misspellings(env);
  problems.push(...misspelt.problems);
  if (problems.length > 0) throw new ConfigError([...problems, ...misspelt.warnings]);
  const { targets: _, deploymentName: _name, deploymentNamespace: _namespace, schedule, agents, ...rest } = read;
  return Object.freeze({
    ...rest,
    httpAddress: withFallback(rest.httpAddress, env),
    login: Object.freeze(loginOf(read)),
    targets,
    schedule: Object.freeze(
      schedule.map(({ alias = defaultAlias, ...upTime }) => Object.freeze({ alias, ...upTime })),
    ),
    agents: Object.freeze(agents.map(({ alias = defaultAlias, userId }) => Object.freeze({ alias, userId }))),
    warnings: Object.freeze([...misspelt.warnings, ...strayUpTimes(read, targets)]),
  });
}

/** What is switched; none where the rows couldn't be read. */
function targetsOf(
  { targets, deploymentName: name, deploymentNamespace: namespace }: Partial<Settings>,
  env: Environment,
): readonly Target[] {
  if (targets !== undefined) return targets;
  const isUnfit = trimmed(env, VARIABLES.targets.name) !== "";
  if (isUnfit || name === undefined || namespace === undefined) return [];
  return Object.freeze([Object.freeze({ alias: name, kind: "deployment", namespace, name } as const)]);
}

/** Aliases that no target has, in schedule and agents; looked for only where the targets could be read. */
function withoutTarget({ schedule = [], agents = [] }: Partial<Settings>, targets: readonly Target[]): string[] {
  const aliases = targets.map(({ alias }) => alias);
  const unknown = (name: string, entries: readonly { readonly alias: string | undefined }[]): string[] =>
    [...new Set(entries.flatMap(({ alias }) => alias === undefined || aliases.includes(alias) ? [] : [alias]))]
      .map((alias) => `${name}: unknown target (got ${quoted(alias)}); use ${aliases.join(" or ")}`);
  if (targets.length === 0) return [];
  return [...unknown(VARIABLES.schedule.name, schedule), ...unknown(VARIABLES.agents.name, agents)];
}

/**
 * Agents that can't be told from people or from each other. Several agents may run in one target, and a message to any
 * of them wakes it; but one account can't be two targets' agent: which of them is a message to wake?
 */
function wrongAgents(settings: Partial<Settings>, targets: readonly Target[]): string[] {
  const { agents = [], allowedUsers = [] } = settings;
  const { agents: { name } } = VARIABLES;
  const own = ownUserId(settings);
  const problems: string[] = [];
  const seen = new Map<string, string | undefined>();
  for (const { alias = targets[0]?.alias, userId } of agents) {
    const wrong = userId === own
      ? "is the operator's own account"
      : allowedUsers.includes(userId)
      ? "is in ALLOWED_USERS, too: an agent may not give commands"
      : seen.has(userId) && seen.get(userId) !== alias
      ? "is named for two targets"
      : undefined;
    if (wrong !== undefined) {
      problems.push(`${name}: ${wrong} (got ${quoted(userId)}); use an account of the agent's own, of one target`);
    }
    seen.set(userId, alias);
  }
  return problems;
}

/** Our own user id, where it can be known before the login. */
function ownUserId({ user, homeserver }: Partial<Settings>): string | undefined {
  if (user === undefined || user.startsWith("@")) return user;
  return homeserver?.kind === "name" ? `@${user}:${homeserver.name}` : undefined;
}

/** An idle time that nothing could be measured by. */
function withoutAgent({ idleStopMs, agents }: Partial<Settings>): string[] {
  if (idleStopMs === undefined || agents === undefined || agents.length > 0) return [];
  const { idleStopMs: { name }, agents: { name: needed } } = VARIABLES;
  return [`${name}: needs ${needed}, since it counts messages to and from an agent; set it or remove ${name}`];
}

/** Times for the default target that were perhaps meant for the one that was named just before. */
function strayUpTimes({ schedule }: Settings, targets: readonly Target[]): string[] {
  return schedule.flatMap(({ alias, text }, index) => {
    const before = schedule.slice(0, index).findLast((each) => each.alias !== undefined)?.alias;
    if (alias !== undefined || before === undefined) return [];
    return [
      `${VARIABLES.schedule.name}: ${quoted(text)} is for ${targets[0]?.alias}, the default target; ` +
      `write ${before}=… if it is meant for ${before}`,
    ];
  });
}

/** The default is IPv6, which includes IPv4; it must do on a machine without IPv6, too. What was configured is meant so. */
function withFallback(address: Settings["httpAddress"], env: Environment): Settings["httpAddress"] {
  if (address === undefined || trimmed(env, VARIABLES.httpAddress.name) !== "") return address;
  return Object.freeze({ ...address, fallback: "0.0.0.0" });
}

/** Two ways to name what is switched, used at once. */
function rivals(env: Environment): string[] {
  const { targets, deploymentName, deploymentNamespace } = VARIABLES;
  if (trimmed(env, targets.name) === "") return [];
  return [deploymentName, deploymentNamespace].filter(({ name }) => trimmed(env, name) !== "")
    .map(({ name }) => `${name}: can't be combined with ${targets.name}; remove one of them`);
}

/** Identities of people who may not command; looked for only where both rows could be read. */
function strangers({ trustedIdentities, allowedUsers }: Partial<Settings>): string[] {
  const { trustedIdentities: { name } } = VARIABLES;
  return (allowedUsers === undefined ? [] : trustedIdentities ?? [])
    .filter(([userId]) => !allowedUsers?.includes(userId))
    .map(([userId]) => `${name}: user is not in ALLOWED_USERS (got ${quoted(userId)}); add or remove it`);
}

/** What the way to log in requires and nobody gave. */
function missing({ authMethod }: Partial<Settings>, env: Environment): string[] {
  return ROWS.filter(({ name, secret, requiredFor = [] }) =>
    requiredFor.some((method) => method === authMethod) &&
    trimmed(env, name) === "" && (!secret || trimmed(env, `${name}_FILE`) === "")
  ).map(({ name, secret }) =>
    `${name}: not set, but required for AUTH_METHOD=${authMethod}${secret ? `; set it or ${name}_FILE` : ""}`
  );
}

function valueOf(variable: Variable<unknown>, env: Environment, context: Context): unknown {
  const { name, default: unset, permitted, parse } = variable;
  const given = givenFor(variable, env, context);
  if (given === undefined && unset === undefined) {
    throw new Unfit(`${name}: not set, but required; use ${permitted}`);
  }
  if (given === undefined && unset === "nothing") return undefined;
  const text = given?.text ?? (typeof unset === "function" ? unset(context) : unset ?? "");
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof Unfit)) throw error;
    throw new Unfit(...error.problems.map((problem) => `${given?.name ?? name}: ${problem}`));
  }
}

/** The text that was given, and under which name; undefined if none was. */
function givenFor(variable: Variable<unknown>, env: Environment, context: Context) {
  const given = [variable.name, variable.otherName ?? variable.name]
    .map((name) => ({ name, text: trimmed(env, name) }))
    .find((each) => each.text !== "");
  const name = `${variable.name}_FILE`;
  const path = trimmed(env, name);
  if (!variable.secret || path === "") return given;
  if (given !== undefined) throw new Unfit(`${name}: can't be combined with ${variable.name}; remove one of them`);
  const text = contentOf(path, name, context);
  if (text === "") throw new Unfit(`${name}: file is empty (got ${JSON.stringify(path)})`);
  return { name, text };
}

function contentOf(path: string, name: string, context: Context): string {
  try {
    return context.readFile(path).replace(/[\r\n]+$/, "");
  } catch (error) {
    const reason = errorMessage(error);
    throw new Unfit(`${name}: can't read the file: ${reason} (got ${JSON.stringify(path)})`);
  }
}

function trimmed(env: Environment, name: string): string {
  return env[name]?.trim() ?? "";
}

/**
 * Names that are nearly ours: a problem where ours is not set, since it was surely meant; else only a warning, as they
 * may be somebody else's. Values are not shown: they may be secrets.
 */
function misspellings(env: Environment): { problems: string[]; warnings: string[] } {
  const names = ROWS.flatMap((
    { name, otherName, secret },
  ) => [name, otherName ?? name, secret ? `${name}_FILE` : name]);
  const problems: string[] = [];
  const warnings: string[] = [];
  for (const given of Object.keys(env)) {
    const right = names.includes(given) || trimmed(env, given) === "" ? undefined : meant(given, names);
    if (right === undefined) continue;
    if (trimmed(env, right) === "") problems.push(`${given}: unknown variable; did you mean ${right}?`);
    else warnings.push(`${given}: unknown variable; ${right} is set and counts`);
  }
  return { problems, warnings };
}

/** Who we are (localpart or full user id), and how that is shown. */
export type Login =
  & { readonly user: string }
  & (
    | { readonly method: "password"; readonly password: Secret }
    /** The token is never replaced and never logged out; the password is for when the homeserver asks for it. */
    | { readonly method: "token"; readonly accessToken: Secret; readonly password: Secret | undefined }
    | JwtLogin
    | SsoLogin
  );

/** By a token that Keycloak gives for a password, and that the homeserver takes in a login of type `loginType`. */
export type JwtLogin = {
  readonly method: "jwt";
  readonly password: Secret;
  readonly keycloak: {
    readonly url: string;
    readonly realm: string;
    readonly clientId: string;
    readonly clientSecret: Secret | undefined;
  };
  readonly loginType: Settings["jwtLoginType"];
};

/** Through the pages that a browser would be shown; with `keycloakUrl` only that host is given the password. */
export type SsoLogin = {
  readonly method: "sso";
  readonly password: Secret;
  readonly idpId: string;
  readonly keycloakUrl: string | undefined;
};

/** The settings of the way that was chosen; that those it requires are there has been seen to. */
function loginOf(settings: Settings): Login {
  const { user, authMethod: method, password, keycloakUrl } = settings;
  switch (method) {
    case "password":
      return { user, method, password: given(password) };
    case "token":
      return { user, method, accessToken: given(settings.accessToken), password };
    case "jwt": {
      const keycloak = {
        url: given(keycloakUrl),
        realm: given(settings.keycloakRealm),
        clientId: given(settings.keycloakClientId),
        clientSecret: settings.keycloakClientSecret,
      };
      return { user, method, password: given(password), keycloak, loginType: settings.jwtLoginType };
    }
    case "sso":
      return { user, method, password: given(password), idpId: settings.ssoIdpId, keycloakUrl };
  }
}

function given<Value>(value: Value | undefined): Value {
  if (value === undefined) throw new TypeError("a setting is missing that its row calls required");
  return value;
}

/**
 * Which of the right names, which are in capitals, was probably meant. Long names may be off by two letters, others by
 * one: what somebody else called `ALLOWED_HOSTS` is not ours.
 */
function meant(given: string, names: readonly string[]): string | undefined {
  const capitals = given.toUpperCase();
  return names.find((name) => isWithin(1, capitals, name)) ??
    names.find((name) => name.length > 10 && isWithin(2, capitals, name));
}

/** Whether so many letters added, left out, replaced or swapped with their neighbours turn one text into the other. */
function isWithin(changes: number, from: string, to: string): boolean {
  if (from === to) return true;
  if (changes === 0 || from === "" || to === "") return Math.max(from.length, to.length) <= changes;
  if (from[0] === to[0]) return isWithin(changes, from.slice(1), to.slice(1));
  return isWithin(changes - 1, from.slice(1), to) ||
    isWithin(changes - 1, from, to.slice(1)) ||
    isWithin(changes - 1, from.slice(1), to.slice(1)) ||
    (from[0] === to[1] && from[1] === to[0] && isWithin(changes - 1, from.slice(2), to.slice(2)));
}
