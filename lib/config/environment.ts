/**
 * Reads the environment into one frozen configuration, or reports all problems at once. The environment and file access
 * are passed in.
 *
 * @module
 */

import { ConfigError, errorMessage } from "../errors.ts";
import type { Secret } from "./secret.ts";
import type { UpTime } from "./up_times.ts";
import { InvalidValue, quoted, type Target } from "./values.ts";
import { type Context, ROWS, type Settings, type Variable, VARIABLES } from "./variables.ts";

/** The configuration, frozen. Times are in milliseconds and have names that end in `Ms`. */
export type Config = Omit<Settings, "targets" | "deploymentName" | "deploymentNamespace" | "schedule" | "agents"> & {
  /** Targets, the default one first; at least one. */
  readonly targets: readonly Target[];
  /** Up-times with their target's alias. A target without one has no schedule. */
  readonly schedule: readonly TargetUpTime[];
  /** Agents with their target's alias. A target may have several. */
  readonly agents: readonly Agent[];
  /** How to log in, with the settings of that method. */
  readonly login: Login;
  /** Warnings to log, one line each. */
  readonly warnings: readonly string[];
};

/** An up-time of a target. */
export interface TargetUpTime extends UpTime {
  /** Alias of the target. */
  readonly alias: string;
}

/** An agent that runs in a target. */
export interface Agent {
  /** Alias of the target. */
  readonly alias: string;
  /** User id of the agent. */
  readonly userId: string;
}

/** Environment variables, as returned by `Deno.env.toObject()`. */
export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Reads the configuration. Values are trimmed, and empty values count as unset.
 *
 * @throws ConfigError with one line per problem: variable, given value (never a secret), allowed values
 */
export function readConfig(env: Environment, context: Context): Config {
  const problems: string[] = [];
  const settings = Object.entries(VARIABLES).map(([key, variable]) => {
    try {
      return [key, valueOf(variable, env, context)];
    } catch (error) {
      if (!(error instanceof InvalidValue)) throw error;
      problems.push(...error.problems);
      return [key, undefined];
    }
  });
  // Has a value for each row, of the type that the row's parser returns: that is how Settings is defined.
  const read = Object.fromEntries(settings) as Settings;
  const targets = targetsOf(read, env);
  problems.push(...identitiesWithoutUser(read), ...conflictingTargets(env), ...missingForLogin(read, env));
  problems.push(...unknownTargets(read, targets), ...agentProblems(read, targets), ...idleWithoutAgent(read));
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

/** Returns the targets; empty if their variables are invalid. */
function targetsOf(
  { targets, deploymentName: name, deploymentNamespace: namespace }: Partial<Settings>,
  env: Environment,
): readonly Target[] {
  if (targets !== undefined) return targets;
  const isUnfit = trimmed(env, VARIABLES.targets.name) !== "";
  if (isUnfit || name === undefined || namespace === undefined) return [];
  return Object.freeze([Object.freeze({ alias: name, kind: "deployment", namespace, name } as const)]);
}

/** Reports unknown aliases in schedule and agents. Skipped if the targets are invalid. */
function unknownTargets({ schedule = [], agents = [] }: Partial<Settings>, targets: readonly Target[]): string[] {
  const aliases = targets.map(({ alias }) => alias);
  const unknown = (name: string, entries: readonly { readonly alias: string | undefined }[]): string[] =>
    [...new Set(entries.flatMap(({ alias }) => alias === undefined || aliases.includes(alias) ? [] : [alias]))]
      .map((alias) => `${name}: unknown target (got ${quoted(alias)}); use ${aliases.join(" or ")}`);
  if (targets.length === 0) return [];
  return [...unknown(VARIABLES.schedule.name, schedule), ...unknown(VARIABLES.agents.name, agents)];
}

/**
 * Reports agents that can't be told apart from users or from each other. Several agents may run in one target, and a
 * message to any of them wakes it. One account can't be the agent of two targets, because a message to it would not
 * tell which one to wake.
 */
function agentProblems(settings: Partial<Settings>, targets: readonly Target[]): string[] {
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

/** Returns our own user id, if it is known before login. */
function ownUserId({ user, homeserver }: Partial<Settings>): string | undefined {
  if (user === undefined || user.startsWith("@")) return user;
  return homeserver?.kind === "name" ? `@${user}:${homeserver.name}` : undefined;
}

/** Reports an idle time without an agent to measure it by. */
function idleWithoutAgent({ idleStopMs, agents }: Partial<Settings>): string[] {
  if (idleStopMs === undefined || agents === undefined || agents.length > 0) return [];
  const { idleStopMs: { name }, agents: { name: needed } } = VARIABLES;
  return [`${name}: needs ${needed}, since it counts messages to and from an agent; set it or remove ${name}`];
}

/** Warns about up-times of the default target that may have been meant for the target named just before. */
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

/**
 * The default address is IPv6, which includes IPv4. Without IPv6 on the machine, IPv4 must do. A configured address has
 * no fallback.
 */
function withFallback(address: Settings["httpAddress"], env: Environment): Settings["httpAddress"] {
  if (address === undefined || trimmed(env, VARIABLES.httpAddress.name) !== "") return address;
  return Object.freeze({ ...address, fallback: "0.0.0.0" });
}

/** Reports that both ways to name targets are used. */
function conflictingTargets(env: Environment): string[] {
  const { targets, deploymentName, deploymentNamespace } = VARIABLES;
  if (trimmed(env, targets.name) === "") return [];
  return [deploymentName, deploymentNamespace].filter(({ name }) => trimmed(env, name) !== "")
    .map(({ name }) => `${name}: can't be combined with ${targets.name}; remove one of them`);
}

/** Reports identities of users who aren't allowed. Skipped if either variable is invalid. */
function identitiesWithoutUser({ trustedIdentities, allowedUsers }: Partial<Settings>): string[] {
  const { trustedIdentities: { name } } = VARIABLES;
  return (allowedUsers === undefined ? [] : trustedIdentities ?? [])
    .filter(([userId]) => !allowedUsers?.includes(userId))
    .map(([userId]) => `${name}: user is not in ALLOWED_USERS (got ${quoted(userId)}); add or remove it`);
}

/** Reports settings that the login method requires and that are not set. */
function missingForLogin({ authMethod }: Partial<Settings>, env: Environment): string[] {
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
    throw new InvalidValue(`${name}: not set, but required; use ${permitted}`);
  }
  if (given === undefined && unset === "nothing") return undefined;
  const text = given?.text ?? (typeof unset === "function" ? unset(context) : unset ?? "");
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof InvalidValue)) throw error;
    throw new InvalidValue(...error.problems.map((problem) => `${given?.name ?? name}: ${problem}`));
  }
}

/** Returns the given text and the name of its variable; undefined if it is not set. */
function givenFor(variable: Variable<unknown>, env: Environment, context: Context) {
  const given = [variable.name, variable.otherName ?? variable.name]
    .map((name) => ({ name, text: trimmed(env, name) }))
    .find((each) => each.text !== "");
  const name = `${variable.name}_FILE`;
  const path = trimmed(env, name);
  if (!variable.secret || path === "") return given;
  if (given !== undefined) {
    throw new InvalidValue(`${name}: can't be combined with ${variable.name}; remove one of them`);
  }
  const text = contentOf(path, name, context);
  if (text === "") throw new InvalidValue(`${name}: file is empty (got ${JSON.stringify(path)})`);
  return { name, text };
}

function contentOf(path: string, name: string, context: Context): string {
  try {
    return context.readFile(path).replace(/[\r\n]+$/, "");
  } catch (error) {
    const reason = errorMessage(error);
    throw new InvalidValue(`${name}: can't read the file: ${reason} (got ${JSON.stringify(path)})`);
  }
}

function trimmed(env: Environment, name: string): string {
  return env[name]?.trim() ?? "";
}

/**
 * Reports names that are nearly ours. If ours is not set, it is a problem, because ours was surely meant; otherwise
 * only a warning, because the variable may belong to another program. Values are not shown, because they may be
 * secrets.
 */
function misspellings(env: Environment): { problems: string[]; warnings: string[] } {
  const names = ROWS.flatMap((
    { name, otherName, secret },
  ) => [name, otherName ?? name, secret ? `${name}_FILE` : name]);
  const problems: string[] = [];
  const warnings: string[] = [];
  for (const given of Object.keys(env)) {
    const right = names.includes(given) || trimmed(env, given) === "" ? undefined : closestName(given, names);
    if (right === undefined) continue;
    if (trimmed(env, right) === "") problems.push(`${given}: unknown variable; did you mean ${right}?`);
    else warnings.push(`${given}: unknown variable; ${right} is set and counts`);
  }
  return { problems, warnings };
}

/** Our user (localpart or full user id), and how to authenticate. */
export type Login =
  & { readonly user: string }
  & (
    | { readonly method: "password"; readonly password: Secret }
    /** The token is never replaced and never logged out. The password is used if the homeserver asks for it. */
    | { readonly method: "token"; readonly accessToken: Secret; readonly password: Secret | undefined }
    | JwtLogin
    | SsoLogin
  );

/** Logs in with a token that Keycloak issues for a password, by a Matrix login of type `loginType`. */
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

/**
 * Logs in through the pages that a browser would show. If `keycloakUrl` is set, only that host receives the password.
 */
export type SsoLogin = {
  readonly method: "sso";
  readonly password: Secret;
  readonly idpId: string;
  readonly keycloakUrl: string | undefined;
};

/** Returns the settings of the chosen login method. Required ones have been checked. */
function loginOf(settings: Settings): Login {
  const { user, authMethod: method, password, keycloakUrl } = settings;
  switch (method) {
    case "password":
      return { user, method, password: required(password) };
    case "token":
      return { user, method, accessToken: required(settings.accessToken), password };
    case "jwt": {
      const keycloak = {
        url: required(keycloakUrl),
        realm: required(settings.keycloakRealm),
        clientId: required(settings.keycloakClientId),
        clientSecret: settings.keycloakClientSecret,
      };
      return { user, method, password: required(password), keycloak, loginType: settings.jwtLoginType };
    }
    case "sso":
      return { user, method, password: required(password), idpId: settings.ssoIdpId, keycloakUrl };
  }
}

function required<Value>(value: Value | undefined): Value {
  if (value === undefined) throw new TypeError("a setting is missing that its row calls required");
  return value;
}

/**
 * Returns the name that was probably meant. Names are in capitals. Long ones may differ by two letters, others by one,
 * so that `ALLOWED_HOSTS` of another program doesn't count as ours.
 */
function closestName(given: string, names: readonly string[]): string | undefined {
  const capitals = given.toUpperCase();
  return names.find((name) => isWithin(1, capitals, name)) ??
    names.find((name) => name.length > 10 && isWithin(2, capitals, name));
}

/** Whether the edit distance (insertions, deletions, replacements, swaps of neighbours) is at most `changes`. */
function isWithin(changes: number, from: string, to: string): boolean {
  if (from === to) return true;
  if (changes === 0 || from === "" || to === "") return Math.max(from.length, to.length) <= changes;
  if (from[0] === to[0]) return isWithin(changes, from.slice(1), to.slice(1));
  return isWithin(changes - 1, from.slice(1), to) ||
    isWithin(changes - 1, from, to.slice(1)) ||
    isWithin(changes - 1, from.slice(1), to.slice(1)) ||
    (from[0] === to[1] && from[1] === to[0] && isWithin(changes - 1, from.slice(2), to.slice(2)));
}
