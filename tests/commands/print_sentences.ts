/** `deno task sentences`: prints every sentence of the chat, with its HTML. */

import { sentences } from "./sentences_test.ts";

for (const [when, { plain, html }] of sentences) {
  console.log(`${when}\n  ${plain.replaceAll("\n", "\n  ")}\n  ${html}\n`);
}
