/** What the operator leaves behind: a log without secrets and message texts, and files that only it can access. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { Case, Story } from "./story.ts";
import type { World } from "./world.ts";

/** Shorter texts, such as bodies of one letter, would match by chance. */
const shortestText = 8;

async function keepsSilent(world: World, story: Story): Promise<void> {
  const { secrets, bodies, logFiles, options, testbed } = world;
  for (const token of operatorTokens(world)) secrets.add(token);
  await addFileKeys(testbed.folder, secrets);
  const logs = await Promise.all([...logFiles].map((file) => Deno.readTextFile(file)));
  const text = logs.join("\n");
  const lines = text.split("\n").length;
  assert.equal(options.environment["LOG_LEVEL"], "debug");
  const found = [...secrets, ...bodies].filter((secret) => secret.length >= shortestText && text.includes(secret));
  assert.deepEqual(found, []);
  const what = `${secrets.size} secrets, ${bodies.size} texts`;
  story.add(`${lines} lines of ${logs.length} operators' logs, searched for ${what}`, `${found.length} found`, "");
}

/** Returns the operator's own access tokens from the homeserver's database. */
function operatorTokens({ testbed, operatorId }: World): string[] {
  if (testbed.homeserver.requestLog === undefined) return []; // given homeservers have no accessible database
  using database = new DatabaseSync(join(testbed.folder, "homeserver", "homeserver.db"), { readOnly: true });
  const tokens = database.prepare("SELECT token FROM access_tokens WHERE user_id LIKE ? OR user_id LIKE ?")
    .all(operatorId, "@keeper%").map(({ token }) => String(token));
  assert.ok(tokens.length > 0, "the operator has no access token");
  return tokens;
}

/** Adds the keys in the stores' files, raw and in base64. */
async function addFileKeys(folder: string, secrets: Set<string>): Promise<void> {
  for await (const { name } of Deno.readDir(folder)) {
    if (!name.startsWith("store")) continue;
    for await (const file of Deno.readDir(join(folder, name))) {
      if (!file.name.includes("key")) continue;
      const bytes = await Deno.readFile(join(folder, name, file.name));
      secrets.add(bytes.toBase64({ omitPadding: true })).add(new TextDecoder().decode(bytes).trim().replace(/=+$/, ""));
    }
  }
}

async function keepsToItself(world: World, story: Story): Promise<void> {
  const folder = world.options.environment["CRYPTO_STORE_PATH"] ?? "";
  const mode = async (path: string) => ((await Deno.stat(path)).mode ?? 0) & 0o777;
  const files: string[] = [];
  for await (const { name } of Deno.readDir(folder)) files.push(name);
  const modes = await Promise.all(files.map((name) => mode(join(folder, name))));
  story.add(
    `(the store's folder, and ${files.length} files in it)`,
    (await mode(folder)).toString(8),
    modes.map((each) => each.toString(8)).join(" "),
  );
  assert.equal(await mode(folder), 0o700);
  assert.deepEqual(modes.filter((each) => each !== 0o600), []);
}

export const discretionCases: readonly Case[] = [
  { name: "no log holds a secret or anybody's words", run: keepsSilent },
  { name: "its files are its own", run: keepsToItself },
];
