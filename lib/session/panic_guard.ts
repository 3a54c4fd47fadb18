/**
 * Remembers at which input the Rust crypto panicked, beyond the end of the process that a panic is: what others send must
 * not end the operator at every start. Knows nothing of what the input is.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { Mutex } from "../async.ts";
import type { CryptoNotes } from "../store/mod.ts";

/** After so many panics an input is not handed over again. */
const MAX_PANICS = 2;

/** Runs calls of the crypto, and notes panics at their inputs. */
export class PanicGuard implements Disposable {
  readonly #notes: CryptoNotes;
  /** How often the crypto has panicked with an input in hand, in earlier processes. */
  readonly #panics: Map<string, number>;
  readonly #inHand = new Set<string>();
  /** After a panic, calls are made one at a time, until it is certain which input it was. */
  readonly #oneByOne: Mutex | undefined;
  readonly #onError = ({ error }: ErrorEvent): void => void this.#noteIfPanic(error);
  readonly #onRejection = ({ reason }: PromiseRejectionEvent): void => void this.#noteIfPanic(reason);

  constructor(notes: CryptoNotes) {
    this.#notes = notes;
    this.#panics = notes.panics();
    if ([...this.#panics.values()].some((times) => times < MAX_PANICS)) this.#oneByOne = new Mutex();
    // Some panics fail no promise. What ends the process because of them is not to come first.
    addEventListener("error", this.#onError, { capture: true });
    addEventListener("unhandledrejection", this.#onRejection, { capture: true });
  }

  /** How often the crypto has panicked with this input in hand. */
  panics(input: string): number {
    return this.#panics.get(input) ?? 0;
  }

  /** The crypto has panicked at this input so often that it must not be handed over again. */
  isBarred(input: string): boolean {
    return this.panics(input) >= MAX_PANICS;
  }

  /**
   * Runs a call that hands an input to the crypto, and that waits for nobody but the crypto. A panic is noted before it is
   * thrown.
   */
  run<T>(input: string, call: () => Promise<T>, signal: AbortSignal): Promise<T> {
    return this.#oneByOne === undefined
      ? this.#run(input, call)
      : this.#oneByOne.run(() => this.#run(input, call), signal);
  }

  /** An input will not come again, or does no harm. */
  forget(input: string): void {
    if (this.#panics.delete(input)) this.#notes.deletePanic(input);
  }

  /** Forgets inputs of a kind except one: their time is over. */
  forgetOthers(kind: string, kept: string): void {
    for (const input of [...this.#panics.keys()]) if (input.startsWith(kind) && input !== kept) this.forget(input);
  }

  async #run<T>(input: string, call: () => Promise<T>): Promise<T> {
    this.#inHand.add(input);
    try {
      const value = await call();
      this.forget(input);
      return value;
    } catch (error) {
      if (!this.#noteIfPanic(error)) this.forget(input);
      throw error;
    } finally {
      this.#inHand.delete(input);
    }
  }

  #noteIfPanic(error: unknown): boolean {
    if (!(error instanceof WebAssembly.RuntimeError)) return false;
    this.#notes.addPanic(this.#inHand);
    // What follows a panic has not caused it.
    this.#inHand.clear();
    return true;
  }

  [Symbol.dispose](): void {
    removeEventListener("error", this.#onError, { capture: true });
    removeEventListener("unhandledrejection", this.#onRejection, { capture: true });
  }
}

/** A short name of an input that has none. */
export function inputName(kind: string, value: unknown): string {
  return `${kind} ${createHash("sha256").update(JSON.stringify(value)).digest("base64url").slice(0, 22)}`;
}
