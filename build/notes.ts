/**
 * `deno task notes`: prints the changelog's part about the version in deno.json, for a release.
 *
 * @module
 */

import { join } from "node:path";
import project from "../deno.json" with { type: "json" };
import { readArguments } from "./arguments.ts";

/**
 * What a changelog in the form of Keep a Changelog says about a version, without its heading.
 *
 * @throws Error if it says nothing
 */
export function notesOf(changelog: string, version: string): string {
  const parts = changelog.split(/^## /m).slice(1);
  const part = parts.find((part) => part.startsWith(`[${version}]`));
  const notes = part?.slice(part.indexOf("\n")).replaceAll(/^\[[^\]]+\]: .*$/gm, "").trim() ?? "";
  if (notes === "") throw new Error(`Cannot find ${version} in CHANGELOG.md: it needs a part "## [${version}] - date"`);
  return notes;
}

if (import.meta.main) {
  readArguments({});
  const changelog = await Deno.readTextFile(join(import.meta.dirname ?? ".", "..", "CHANGELOG.md"));
  try {
    console.log(notesOf(changelog, project.version));
  } catch (error) {
    console.error((error as Error).message);
    Deno.exit(1);
  }
}
