/**
 * Key ranges. Keys are compared in encoded form.
 *
 * @module
 */

import { encodeKey, type Key, toKey } from "./keys.ts";

/** Bound of a range, encoded. */
export interface Bound {
  readonly key: Uint8Array;
  /** Whether the bound itself lies outside. */
  readonly isOpen: boolean;
}

/** A range of keys. */
export class IDBKeyRange {
  readonly lower: Key | undefined;
  readonly upper: Key | undefined;
  readonly lowerOpen: boolean;
  readonly upperOpen: boolean;

  /** Use the static methods. */
  private constructor(lower: Key | undefined, upper: Key | undefined, lowerOpen: boolean, upperOpen: boolean) {
    this.lower = lower;
    this.upper = upper;
    this.lowerOpen = lowerOpen || lower === undefined;
    this.upperOpen = upperOpen || upper === undefined;
  }

  /** @throws DOMException DataError if a bound isn't a key, or the lower one lies above the upper one */
  static bound(lower: unknown, upper: unknown, lowerOpen = false, upperOpen = false): IDBKeyRange {
    const [from, to] = [toKey(lower), toKey(upper)];
    const order = Buffer.compare(encodeKey(from), encodeKey(to));
    if (order > 0 || (order === 0 && (lowerOpen || upperOpen))) {
      throw new DOMException("Cannot make a key range that holds no key", "DataError");
    }
    return new IDBKeyRange(from, to, lowerOpen, upperOpen);
  }

  static lowerBound(lower: unknown, isOpen = false): IDBKeyRange {
    return new IDBKeyRange(toKey(lower), undefined, isOpen, true);
  }

  static upperBound(upper: unknown, isOpen = false): IDBKeyRange {
    return new IDBKeyRange(undefined, toKey(upper), true, isOpen);
  }

  static only(key: unknown): IDBKeyRange {
    const only = toKey(key);
    return new IDBKeyRange(only, only, false, false);
  }
}

/** A range of encoded keys. */
export class EncodedRange {
  readonly lower: Bound | undefined;
  readonly upper: Bound | undefined;

  constructor(lower?: Bound, upper?: Bound) {
    this.lower = lower;
    this.upper = upper;
  }

  /** The range of one key. */
  static ofKey(key: Uint8Array): EncodedRange {
    const bound = { key, isOpen: false };
    return new EncodedRange(bound, bound);
  }

  /** The range of a query: a key, a range, or all keys. */
  static of(query: unknown): EncodedRange {
    if (query === undefined || query === null) return new EncodedRange();
    if (!(query instanceof IDBKeyRange)) return EncodedRange.ofKey(encodeKey(toKey(query)));
    const { lower, upper, lowerOpen, upperOpen } = query;
    return new EncodedRange(
      lower === undefined ? undefined : { key: encodeKey(lower), isOpen: lowerOpen },
      upper === undefined ? undefined : { key: encodeKey(upper), isOpen: upperOpen },
    );
  }

  /** The only key within, if it is the range of one. */
  get only(): Uint8Array | undefined {
    return this.lower === this.upper ? this.lower?.key : undefined;
  }

  /** Whether a key lies within. */
  includes(key: Uint8Array): boolean {
    const { lower, upper } = this;
    const above = lower === undefined ? 1 : Buffer.compare(key, lower.key);
    const below = upper === undefined ? -1 : Buffer.compare(key, upper.key);
    return (above > 0 || (above === 0 && !lower?.isOpen)) && (below < 0 || (below === 0 && !upper?.isOpen));
  }
}
