/**
 * JSON as servers may send it, beyond what a JavaScript value can hold: names that repeat, numbers and depths without
 * bounds.
 *
 * @module
 */

/** JSON text that is sent as it is. */
export class Raw {
  constructor(readonly text: string) {}
}

/** An object, whose names may repeat. */
export class Members {
  constructor(readonly entries: readonly (readonly [name: string, value: unknown])[]) {}
}

/** The text of a value; `Raw` and `Members` may stand anywhere in it. */
export function render(value: unknown): string {
  if (value instanceof Raw) return value.text;
  if (Array.isArray(value)) return `[${value.map(render).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value ?? null);
  const entries = value instanceof Members ? value.entries : Object.entries(value);
  return `{${entries.map(([name, each]) => `${JSON.stringify(name)}:${render(each)}`).join(",")}}`;
}
