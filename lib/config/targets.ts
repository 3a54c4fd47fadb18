/**
 * What is switched, as the configuration names it: `alias=namespace/name` or `alias=statefulset/namespace/name`.
 *
 * @module
 */

import { parse } from "../commands/mod.ts";
import type { Workload } from "../scaler/mod.ts";
import { isLabel, isSubdomain, quoted, Unfit } from "./parsers.ts";

/** A workload that is switched on and off. */
export interface Target extends Workload {
  /** The name that people use. */
  readonly alias: string;
}

/** Targets between commas, the default one first; every one that is wrong is told. */
export function targets(text: string): readonly Target[] {
  const found = new Map<string, Target>();
  const problems: string[] = [];
  for (const item of text.split(",").map((each) => each.trim()).filter((each) => each !== "")) {
    const target = targetOf(item);
    if (typeof target === "string") problems.push(`${quoted(item)} ${target}`);
    else if (found.has(target.alias)) problems.push(`${quoted(item)} has the alias of another target`);
    else if ([...found.values()].some((other) => placeOf(other) === placeOf(target))) {
      problems.push(`${quoted(item)} is a second alias of one target`);
    } else found.set(target.alias, target);
  }
  if (found.size === 0 && problems.length === 0) problems.push(`${quoted(text)} names nothing`);
  if (problems.length > 0) throw new Unfit(...problems);
  return Object.freeze([...found.values()]);
}

/** A target, or what is wrong with it. An alias begins with a letter, so that none can be taken for a duration. */
function targetOf(item: string): Target | string {
  const [, alias = "", place = ""] = /^([^=]*)=(.*)$/.exec(item) ?? [];
  const parts = place.split("/").map((part) => part.trim());
  const [kind = "", namespace = "", name = ""] = parts.length === 2 ? ["deployment", ...parts] : parts;
  if (parts.length > 3 || (kind !== "deployment" && kind !== "statefulset")) {
    return "is not alias=namespace/name or alias=statefulset/namespace/name";
  }
  if (!/^[a-z][a-z0-9-]*$/.test(alias)) return "has an alias that is not [a-z][a-z0-9-]*";
  if (alias === "all" || parse(alias, [], []).kind === "command") return "has an alias that is a word of a command";
  if (!isLabel(namespace)) return "has a namespace that is not a DNS label";
  if (!isSubdomain(name)) return "has a name that is not a DNS subdomain";
  return Object.freeze({ alias, kind, namespace, name });
}

function placeOf({ kind, namespace, name }: Target): string {
  return `${kind}/${namespace}/${name}`;
}
