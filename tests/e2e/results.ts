/**
 * Results of the end-to-end suites by homeserver, stored in `.cache/e2e` so that two homeservers can be compared.
 *
 * @module
 */

import { join } from "node:path";
import type { HomeserverKind } from "../../testbed/mod.ts";
import { projectRoot } from "../operator_process.ts";

/** Result of a case. */
export interface CaseResult {
  /** What must hold. */
  readonly name: string;
  /** `not there` means that the case tests something that this homeserver doesn't have. */
  readonly outcome: "passed" | "failed" | "not there";
  /** For `not there`: what the operator relies on instead. */
  readonly why?: string;
}

/** Result of a suite. */
export interface SuiteResult {
  readonly suite: string;
  /** End time, ISO 8601. */
  readonly at: string;
  /** Cases in order. */
  readonly cases: readonly CaseResult[];
}

/** The part of a case that results need. */
export interface NamedCase {
  /** What must hold. */
  readonly name: string;
  /** Why the case needs Synapse, and what the operator relies on elsewhere. */
  readonly synapseOnly?: string | undefined;
  /** The same for Dendrite. */
  readonly dendriteOnly?: string | undefined;
}

/** Results of one suite at one homeserver. Saved on disposal. */
export class Results implements AsyncDisposable {
  readonly #suite: string;
  readonly #kind: HomeserverKind;
  readonly #isWhole: boolean;
  readonly #cases: CaseResult[] = [];

  /** @param isWhole whether all cases run; partial results aren't saved */
  constructor(suite: string, kind: HomeserverKind, isWhole = true) {
    this.#suite = suite;
    this.#kind = kind;
    this.#isWhole = isWhole;
  }

  /** Reports, and prints with the reason, that a case tests something that this homeserver doesn't have. */
  isElsewhere({ name, synapseOnly, dendriteOnly }: NamedCase): boolean {
    const why = this.#kind === "synapse" ? dendriteOnly : synapseOnly;
    if (why === undefined) return false;
    console.log(`not there on ${this.#kind}: ${name}: ${why}`);
    this.#cases.push({ name, outcome: "not there", why });
    return true;
  }

  /** Records the result of a case. */
  add(name: string, passed: boolean): void {
    this.#cases.push({ name, outcome: passed ? "passed" : "failed" });
  }

  /** Runs a case as a test step, if it applies here. Returns false if it failed. */
  async step(t: Deno.TestContext, one: NamedCase, run: () => void | Promise<void>): Promise<boolean> {
    if (this.isElsewhere(one)) return true;
    const passed = await t.step(one.name, run);
    this.add(one.name, passed);
    return passed;
  }

  /** Saves the results and replaces earlier ones. */
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

/** Returns the latest saved results of each suite. */
export async function savedResults(kind: HomeserverKind): Promise<readonly SuiteResult[]> {
  try {
    return JSON.parse(await Deno.readTextFile(fileOf(kind)));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}
