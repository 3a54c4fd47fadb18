/** `deno task e2e:table`: prints the results of the end-to-end suites, one column per homeserver. */

import { readArguments } from "../../build/arguments.ts";
import { type HomeserverKind, homeserverKinds } from "../../testbed/homeserver.ts";
import { type CaseResult, savedResults, type SuiteResult } from "./results.ts";

const marks: Readonly<Record<CaseResult["outcome"], string>> = { passed: "✔", failed: "✘", "not there": "–" };

/** Formats results of several homeservers: one line per case, and below it why some weren't run. */
export function resultTable(results: ReadonlyMap<HomeserverKind, readonly SuiteResult[]>): string {
  const kinds = [...results.keys()];
  const width = Math.max(...kinds.map(({ length }) => length)) + 2;
  const suites = [...new Set([...results.values()].flat().map(({ suite }) => suite))];
  const lines = [kinds.map((kind) => kind.padEnd(width)).join("") + "case"];
  const reasons: string[] = [];
  for (const suite of suites) {
    const columns = kinds.map((kind) => results.get(kind)?.find((each) => each.suite === suite)?.cases ?? []);
    lines.push("", `${" ".repeat(width * kinds.length)}${suite}`);
    for (const name of new Set(columns.flat().map((each) => each.name))) {
      const found = columns.map((cases) => cases.find((each) => each.name === name));
      lines.push(found.map((each) => (each ? marks[each.outcome] : " ").padEnd(width)).join("") + `  ${name}`);
      for (const { why } of found.filter((each) => each !== undefined)) {
        if (why !== undefined) reasons.push(`– ${name}: ${why}`);
      }
    }
  }
  const sums = kinds.map((kind) => {
    const cases = (results.get(kind) ?? []).flatMap((each) => each.cases);
    const count = (outcome: CaseResult["outcome"]) => cases.filter((each) => each.outcome === outcome).length;
    return `${kind}: ${count("passed")} passed, ${count("failed")} failed, ${count("not there")} not there`;
  });
  return [...lines, "", ...reasons, "", ...sums].join("\n");
}

if (import.meta.main) {
  readArguments({});
  const results = new Map<HomeserverKind, readonly SuiteResult[]>();
  for (const kind of homeserverKinds) results.set(kind, await savedResults(kind));
  console.log(resultTable(results));
}
