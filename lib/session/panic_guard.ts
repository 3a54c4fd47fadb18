/**
 * Remembers the inputs on which the Rust crypto panicked. A panic ends the process, so without this record, input from
 * other people could end the operator at every start.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { Mutex } from "../async.ts";
import type { CryptoNotes } from "../store/mod.ts";

/** Panics after which an input is never processed again. */
const MAX_PANICS = 2;

/** Runs calls into the crypto and records the inputs of those that panic. */
export class PanicGuard implements Disposable {
  readonly #notes: CryptoNotes;
  /** Number of panics by input in progress, from earlier processes. */
  readonly #panics: Map<string, number>;
  readonly #inProgress = new Set<string>();
  /** Serializes calls after a panic, until the input that caused it is known. */
  readonly #oneByOne: Mutex | undefined;
  readonly #onError = ({ error }: ErrorEvent): void => void this.#recordIfPanic(error);
  readonly #onRejection = ({ reason }: PromiseRejectionEvent): void => void this.#recordIfPanic(reason);

  constructor(notes: CryptoNotes) {
    this.#notes = notes;
    this.#panics = notes.panics();
    if ([...this.#panics.values()].some((times) => times < MAX_PANICS)) this.#oneByOne = new Mutex();
    // Some panics reject no promise. Capture them before other handlers end the process.
    addEventListener("error", this.#onError, { capture: true });
    addEventListener("unhandledrejection", this.#onRejection, { capture: true });
  }

  /** Returns how often the crypto has panicked while this input was in progress. */
  panics(input: string): number {
    return this.#panics.get(input) ?? 0;
  }

  /** Reports whether the crypto has panicked on this input too often to try again. */
  isBarred(input: string): boolean {
    return this.panics(input) >= MAX_PANICS;
  }

  /**
   * Runs a call that passes an input to the crypto. The call must not wait for anything but the crypto. A panic is
   * recorded before it is thrown.
   */
  run<T>(input: string, call: () => Promise<T>, signal: AbortSignal): Promise<T> {
    return this.#oneByOne === undefined
      ? this.#run(input, call)
      : this.#oneByOne.run(() => this.#run(input, call), signal);
  }

  /** Deletes the record of an input that won't come again or has proved harmless. */
  forget(input: string): void {
    if (this.#panics.delete(input)) this.#notes.deletePanic(input);
  }

  /** Deletes the records of all inputs of a kind, except one. Only that one can come again. */
  forgetOthers(kind: string, kept: string): void {
    for (const input of [...this.#panics.keys()]) if (input.startsWith(kind) && input !== kept) this.forget(input);
  }

  async #run<T>(input: string, call: () => Promise<T>): Promise<T> {
    this.#inProgress.add(input);
    try {
      const value = await call();
      this.forget(input);
      return value;
    } catch (error) {
      if (!this.#recordIfPanic(error)) this.forget(input);
      throw error;
    } finally {
      this.#inProgress.delete(input);
    }
  }

  #recordIfPanic(error: unknown): boolean {
    if (!(error instanceof WebAssembly.RuntimeError)) return false;
    this.#notes.recordPanic(this.#inProgress);
    // Later errors are consequences of this panic, not causes.
    this.#inProgress.clear();
    return true;
  }

  [Symbol.dispose](): void {
    removeEventListener("error", this.#onError, { capture: true });
    removeEventListener("unhandledrejection", this.#onRejection, { capture: true });
  }
}

/** Derives a short identifier for an input without an ID. */
export function inputName(kind: string, value: unknown): string {
  return `${kind} ${createHash("sha256").update(JSON.stringify(value)).digest("base64url").slice(0, 22)}`;
}
