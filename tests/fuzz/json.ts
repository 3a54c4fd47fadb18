/**
 * JSON that servers may send but JavaScript values can't represent: duplicate names, and unbounded numbers and depths.
 *
 * @module
 */

/** JSON text that is inserted as is. */
export class Raw {
  constructor(readonly text: string) {}
}

/** An object with possibly duplicate names. */
export class Members {
  constructor(readonly entries: readonly (readonly [name: string, value: unknown])[]) {}
}

/** Renders a value as JSON. It may contain `Raw` and `Members` at any depth. */
export function render(value: unknown): string {
  if (value instanceof Raw) return value.text;
  if (Array.isArray(value)) return `[${value.map(render).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value ?? null);
  const entries = value instanceof Members ? value.entries : Object.entries(value);
  return `{${entries.map(([name, each]) => `${JSON.stringify(name)}:${render(each)}`).join(",")}}`;
}
