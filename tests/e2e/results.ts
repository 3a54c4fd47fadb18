/**
 * What came of the cases of the end-to-end suites, kept for each homeserver under `.cache/e2e`, so that two of them can
 * be shown side by side. Knows nothing of what the cases are.
 *
 * @module
 */

import { join } from "node:path";
import type { HomeserverKind } from "../../testbed/mod.ts";
import { projectRoot } from "../operator_process.ts";

/** What came of a case. */
export interface CaseResult {
  /** What must hold. */
  readonly name: string;
  /** Whether it does; `not there`: it is about something that this homeserver does not have. */
  readonly outcome: "passed" | "failed" | "not there";
  /** What is relied on without it. */
  readonly why?: string;
}

/** What came of a suite. */
export interface SuiteResult {
  /** Its name. */
  readonly suite: string;
  /** When it ended, ISO 8601. */
  readonly at: string;
  /** Its cases, in their order. */
  readonly cases: readonly CaseResult[];
}

/** A case as far as this is about it. */
export interface NamedCase {
  /** What must hold. */
  readonly name: string;
  /** Only Synapse has what it is about: why, and what is relied on elsewhere. */
  readonly synapseOnly?: string | undefined;
  /** The same of Dendrite. */
  readonly dendriteOnly?: string | undefined;
}

/** The results of one suite at one homeserver; saved at the end. */
export class Results implements AsyncDisposable {
  readonly #suite: string;
  readonly #kind: HomeserverKind;
  readonly #isWhole: boolean;
  readonly #cases: CaseResult[] = [];

  /** @param isWhole all cases run; of some alone nothing is saved */
  constructor(suite: string, kind: HomeserverKind, isWhole = true) {
    this.#suite = suite;
    this.#kind = kind;
    this.#isWhole = isWhole;
  }

  /** Whether a case is about something that this homeserver doesn't have; said, with the reason. */
  isElsewhere({ name, synapseOnly, dendriteOnly }: NamedCase): boolean {
    const why = this.#kind === "synapse" ? dendriteOnly : synapseOnly;
    if (why === undefined) return false;
    console.log(`not there on ${this.#kind}: ${name}: ${why}`);
    this.#cases.push({ name, outcome: "not there", why });
    return true;
  }

  /** Notes what came of a case. */
  add(name: string, passed: boolean): void {
    this.#cases.push({ name, outcome: passed ? "passed" : "failed" });
  }

  /** Runs a case as a step of a test, where it can be tried. Returns false if it failed. */
  async step(t: Deno.TestContext, one: NamedCase, run: () => void | Promise<void>): Promise<boolean> {
    if (this.isElsewhere(one)) return true;
    const passed = await t.step(one.name, run);
    this.add(one.name, passed);
    return passed;
  }

  /** Saves them in the place of earlier ones. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isWhole) return;
    const earlier = (await savedResults(this.#kind)).filter(({ suite }) => suite !== this.#suite);
    const now = { suite: this.#suite, at: new Date().toISOString(), cases: this.#cases };
    await Deno.mkdir(folder, { recursive: true });
    await Deno.writeTextFile(fileOf(this.#kind), JSON.stringify([...earlier, now], null, 2));
  }
}

const folder = join(projectRoot, ".cache", "e2e");

function fileOf(kind: HomeserverKind): string {
  return join(folder, `${kind}.json`);
}

/** The results that the last runs of each suite have saved. */
export async function savedResults(kind: HomeserverKind): Promise<readonly SuiteResult[]> {
  try {
    return JSON.parse(await Deno.readTextFile(fileOf(kind)));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}
