/** The log speaks in one style: `verb object: reason`, in lower case, without a full stop (docs/developing.md). */

import assert from "node:assert/strict";
import { join } from "node:path";

const root = join(import.meta.dirname ?? ".", "..");

/** Where a line of the log is written, and its text. */
interface Line {
  readonly at: string;
  readonly template: string;
}

function* sources(folder: string): Generator<string> {
  for (const { name, isDirectory } of Deno.readDirSync(join(root, folder))) {
    if (isDirectory) yield* sources(`${folder}/${name}`);
    else if (name.endsWith(".ts")) yield `${folder}/${name}`;
  }
}

/** Every text that a call of a logger begins with. */
function linesOf(path: string, text: string): Line[] {
  const calls = text.matchAll(
    /\blog(?:ger)?(?:\.(?:debug|info|warn|warning|error|fatal)|\[\w+\])\(\s*("(?:[^"\\]|\\.)*"|`[^`]*`)/g,
  );
  return [...calls].map((call) => {
    const line = text.slice(0, call.index).split("\n").length;
    return { at: `${path}:${line}`, template: (call[1] ?? "").slice(1, -1) };
  });
}

/** What is wrong with a text, if anything. */
function faultOf(template: string): string | undefined {
  if (!/^[a-z]/.test(template)) return "does not begin with a verb in lower case";
  if (/[.!]$/.test(template)) return "ends like a sentence";
  if (/\b(?:I|we|us|our|cannot|can't|Gave|Got)\b/.test(template)) return "speaks of itself, or of what it can't do";
  if (/: .*: (?!.*\{setting)/.test(template)) return "has two reasons";
  return undefined;
}

Deno.test("faultOf() finds each fault", () => {
  for (
    const wrong of ["Joined {room}", "{reason}; again", "joined {room}.", "joined {room}: we like it", "a {b}: c: d"]
  ) {
    assert.notEqual(faultOf(wrong), undefined, wrong);
  }
  assert.equal(faultOf("joined {room}: invited by {inviters}"), undefined);
});

Deno.test("every line of the log is `verb object: reason`", () => {
  const all = [...sources("lib"), "main.ts"].flatMap((path) => linesOf(path, Deno.readTextFileSync(join(root, path))));
  assert.ok(all.length > 50, `only ${all.length} lines were found`);
  const wrong = all.map(({ at, template }) => [at, template, faultOf(template)]).filter(([, , fault]) => fault);
  assert.deepEqual(wrong, []);
});
