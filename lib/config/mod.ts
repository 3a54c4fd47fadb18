/**
 * Reads environment variables into a {@linkcode Config} and arguments into a {@linkcode Purpose}. One table of
 * variables defines parsing, the docs' tables and `--help`.
 *
 * @module
 */

export { helpTable, markdownTables, type Purpose, readArguments, usage } from "./arguments.ts";
export {
  type Agent,
  type Config,
  type Environment,
  type JwtLogin,
  type Login,
  readConfig,
  type SsoLogin,
  type TargetUpTime,
} from "./environment.ts";
export { encodeRecoveryKey } from "./recovery_key.ts";
export { Secret } from "./secret.ts";
export type { UpTime } from "./up_times.ts";
export type { Homeserver, HttpAddress, Target } from "./values.ts";
export { type Context, GROUPS, type Settings, VARIABLES } from "./variables.ts";
