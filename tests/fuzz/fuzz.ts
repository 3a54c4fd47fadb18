/**
 * The operator stays healthy whatever its servers answer: `deno task fuzz --minutes=30 --seed=N`. `--rounds=a,b` limits
 * the run to these rounds, `--answers=a#1,b#2` changes only these responses.
 */

import assert from "node:assert/strict";
import { countOf } from "../long/arguments.ts";
import { CarelessCopy } from "./careless.ts";
import { fuzz, PROPERTIES } from "./run.ts";

const SEED = countOf("seed", Math.floor(Math.random() * 2 ** 31));
const MINUTES = countOf("minutes", 2);

function names(argument: string): string[] | undefined {
  return Deno.args.find((each) => each.startsWith(`--${argument}=`))?.slice(argument.length + 3).split(",");
}

Deno.test(`for ${MINUTES} min its servers answer anything (seed ${SEED}), and the operator stays well`, async () => {
  const print = (line: string) => console.log(line);
  const { failures, changes, record } = await fuzz({
    seed: SEED,
    forMs: MINUTES * 60_000,
    rounds: names("rounds"),
    answers: names("answers"),
    print,
  });
  console.log(`\n${changes.length} answers changed, seed ${SEED}`);
  for (const property of PROPERTIES) {
    const all = failures.get(property) ?? [];
    console.log(
      all.length === 0 ? `pass  ${property}` : `FAIL  ${property} (seed ${SEED}, ${record}):\n${all.join("\n")}`,
    );
  }
  assert.deepEqual([...failures.keys()], []);
});

Deno.test(`control: a parser that takes answers for what they should be is found (seed ${SEED})`, async () => {
  await using careless = await CarelessCopy.make();
  const options = { seed: SEED, forMs: 60_000, rounds: ["sync"], until: ["no exit", "no hang"] } as const;
  const found = await fuzz({ ...options, root: careless.root });
  const [failure] = options.until.flatMap((property) => found.failures.get(property) ?? []);
  assert.ok(failure !== undefined, "the careless parser has not been found");
  const words = /^.* (?:error|fatal) main: .*$/m.exec(failure)?.[0] ?? failure.split("\n")[0];
  console.log(`found after ${found.changes.length} changed answers: ${words}`);
  // The same responses do no harm to the unmodified operator, so the careless readers were the cause.
  const { failures } = await fuzz({ ...options, forMs: 10_000, answers: found.changes });
  assert.deepEqual(options.until.flatMap((property) => failures.get(property) ?? []), []);
});
