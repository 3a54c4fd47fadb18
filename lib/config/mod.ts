/**
 * Environment → one frozen {@linkcode Config}; arguments → one {@linkcode Purpose}. One table of variables yields
 * parsing, the README's table and `--help`.
 *
 * @module
 */

export { type Purpose, readArguments, usage } from "./arguments.ts";
export { helpTable, markdownTable } from "./document.ts";
export type { JwtLogin, Login, SsoLogin } from "./login.ts";
export type { Homeserver, HttpAddress } from "./parsers.ts";
export { type Config, type Environment, readConfig } from "./read.ts";
export { encodeRecoveryKey } from "./recovery_key.ts";
export { Secret } from "./secret.ts";
export type { Target } from "./targets.ts";
export type { Context } from "./variable.ts";
export { type Settings, VARIABLES } from "./variables.ts";
