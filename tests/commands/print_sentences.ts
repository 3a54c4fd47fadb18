/** `deno task sentences`: prints every sentence of the chat, with its HTML. */

import { readArguments } from "../../build/arguments.ts";
import { sentences } from "./sentences_test.ts";

readArguments({});
for (const [when, { plain, html }] of sentences) {
  console.log(`${when}\n  ${plain.replaceAll("\n", "\n  ")}\n  ${html}\n`);
}
