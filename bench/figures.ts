/**
 * Measured figures, and their table.
 *
 * @module
 */

/** Values of one figure, by program; a row of the table. */
export interface Figure {
  /** What was measured. */
  readonly what: string;
  /** Unit of the values. */
  readonly unit: "ms" | "MiB" | "requests" | "requests a minute" | "% of one core";
  /** Values by program name. */
  readonly values: Readonly<Record<string, readonly number[]>>;
}

/** Median; of an even count, the mean of the two middle values. */
export function median(numbers: readonly number[]): number {
  return (quantile(numbers, 0.5, Math.floor) + quantile(numbers, 0.5, Math.ceil)) / 2;
}

/** 95th percentile. */
export function p95(numbers: readonly number[]): number {
  return quantile(numbers, 0.95, Math.ceil);
}

/** 99th percentile. */
export function p99(numbers: readonly number[]): number {
  return quantile(numbers, 0.99, Math.ceil);
}

function quantile(numbers: readonly number[], share: number, round: (place: number) => number): number {
  return numbers.toSorted((a, b) => a - b)[round(share * (numbers.length - 1))] ?? NaN;
}

/** Formats the figures as a table: median, p95 if there are several values, and ratios to the operator. */
export function table(figures: readonly Figure[]): string {
  const isCompared = figures.some(({ values }) => "before" in values);
  const earlier = isCompared ? ["before", "p95"] : [];
  const head = [
    "",
    "unit",
    "operator",
    "p95",
    ...earlier,
    "Python operator",
    "p95",
    "ratio",
    "floor",
    "operator / floor",
  ];
  const rows = figures.map(({ what, unit, values: { toggle = [], before = [], python = [], floor = [] } }) => [
    what,
    unit,
    ...[median(toggle), toggle.length > 1 ? p95(toggle) : NaN].map(shown),
    ...isCompared ? [median(before), before.length > 1 ? p95(before) : NaN].map(shown) : [],
    ...[median(python), python.length > 1 ? p95(python) : NaN].map(shown),
    times(median(python), median(toggle)),
    shown(median(floor)),
    times(median(toggle), median(floor)),
  ]);
  const widths = head.map((title, column) => Math.max(...[head, ...rows].map((row) => (row[column] ?? title).length)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, i) => i < 2 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)).join(" | ")} |`;
  const rule = `| ${widths.map((width, i) => i < 2 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`).join(" | ")} |`;
  return [line(head), rule, ...rows.map(line)].join("\n");
}

function shown(value: number): string {
  if (Number.isNaN(value)) return "";
  return value >= 100 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : value.toFixed(2);
}

function times(one: number, other: number): string {
  const ratio = one / other;
  return Number.isFinite(ratio) ? `${ratio.toFixed(1)}×` : "";
}
