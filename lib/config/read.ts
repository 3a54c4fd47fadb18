/**
 * Environment in, one frozen configuration out, or every problem at once. Touches neither the real environment nor the
 * disk: both are handed in.
 *
 * @module
 */

import { ConfigError } from "../errors.ts";
import { type Login, loginOf } from "./login.ts";
import { meant } from "./misspelt.ts";
import { quoted, Unfit } from "./parsers.ts";
import type { Target } from "./targets.ts";
import type { Context, Variable } from "./variable.ts";
import { ROWS, type Settings, VARIABLES } from "./variables.ts";

/** The whole configuration, frozen. Times are milliseconds, and their names end in `Ms`. */
export type Config = Omit<Settings, "targets" | "deploymentName" | "deploymentNamespace"> & {
  /** What is switched, the default one first; at least one. */
  readonly targets: readonly Target[];
  /** How to log in, with all that belongs to that way. */
  readonly login: Login;
  /** What is odd but no error, one line each: to be logged. */
  readonly warnings: readonly string[];
};

/** An environment, as `Deno.env.toObject()` gives it. */
export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Reads the configuration. Values are trimmed, and empty ones count as unset.
 *
 * @throws ConfigError with one line for each problem: the variable, what was given (never a secret), what is permitted
 */
export function readConfig(env: Environment, context: Context): Config {
  const problems: string[] = [];
  const settings = Object.entries(VARIABLES).map(([key, variable]) => {
    try {
      return [key, valueOf(variable, env, context)];
    } catch (error) {
      if (!(error instanceof Unfit)) throw error;
      problems.push(...error.problems.map((problem) => `${problem}; permitted: ${variable.permitted}`));
      return [key, undefined];
    }
  });
  // A value for each row, of the type that the row's parser yields: this is how Settings is defined.
  const read = Object.fromEntries(settings) as Settings;
  problems.push(...strangers(read), ...rivals(env), ...missing(read, env));
  const misspelt = misspellings(env);
  problems.push(...misspelt.problems);
  if (problems.length > 0) throw new ConfigError(problems);
  const { targets, deploymentName: name, deploymentNamespace: namespace, ...rest } = read;
  const only = { alias: name, kind: "deployment", namespace, name } as const;
  return Object.freeze({
    ...rest,
    login: Object.freeze(loginOf(read)),
    targets: targets ?? Object.freeze([Object.freeze(only)]),
    warnings: Object.freeze(misspelt.warnings),
  });
}

/** Two ways to name what is switched, used at once. */
function rivals(env: Environment): string[] {
  const { targets, deploymentName, deploymentNamespace } = VARIABLES;
  if (trimmed(env, targets.name) === "") return [];
  return [deploymentName, deploymentNamespace].filter(({ name }) => trimmed(env, name) !== "")
    .map(({ name }) => `${name}: set together with ${targets.name}, one too many; permitted: either of them`);
}

/** Identities of people who may not command; looked for only where both rows could be read. */
function strangers({ trustedIdentities, allowedUsers }: Partial<Settings>): string[] {
  const { trustedIdentities: { name, permitted } } = VARIABLES;
  return (allowedUsers === undefined ? [] : trustedIdentities ?? [])
    .filter(([userId]) => !allowedUsers?.includes(userId))
    .map(([userId]) => `${name}: ${quoted(userId)} is not among ALLOWED_USERS; permitted: ${permitted}`);
}

/** What the way to log in requires and nobody gave. */
function missing({ authMethod }: Partial<Settings>, env: Environment): string[] {
  return ROWS.filter(({ name, secret, requiredFor = [] }) =>
    requiredFor.some((method) => method === authMethod) &&
    trimmed(env, name) === "" && (!secret || trimmed(env, `${name}_FILE`) === "")
  ).map(({ name, permitted }) =>
    `${name}: not set, but required for AUTH_METHOD=${authMethod}; permitted: ${permitted}`
  );
}

function valueOf(variable: Variable<unknown>, env: Environment, context: Context): unknown {
  const { name, default: unset, parse } = variable;
  const given = givenFor(variable, env, context);
  if (given === undefined && unset === undefined) throw new Unfit(`${name}: not set, but required`);
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
  if (given !== undefined) throw new Unfit(`${name}: set together with ${variable.name}, one too many`);
  const text = contentOf(path, name, context);
  if (text === "") throw new Unfit(`${name}: ${JSON.stringify(path)} is empty`);
  return { name, text };
}

function contentOf(path: string, name: string, context: Context): string {
  try {
    return context.readFile(path).replace(/[\r\n]+$/, "");
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Unfit(`${name}: cannot read ${JSON.stringify(path)}: ${reason}`);
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
    if (trimmed(env, right) === "") problems.push(`${given}: no variable of ours; did you mean ${right}?`);
    else warnings.push(`${given} is no variable of ours; ${right} is set and counts`);
  }
  return { problems, warnings };
}
