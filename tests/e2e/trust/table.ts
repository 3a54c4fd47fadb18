/** Formats a table. Long cells are truncated. */

/** Formats a table; cells are cut to what fits a line. */
export function table(head: readonly string[], rows: readonly (readonly string[])[], longest = 64): string {
  const body = rows.map((cells) => cells.map((cell) => oneLine(cell, longest)));
  const widths = head.map((title, column) =>
    Math.max(title.length, ...body.map((cells) => [...cells[column] ?? ""].length))
  );
  const line = (cells: readonly string[]) =>
    cells.map((cell, column) => cell + " ".repeat(Math.max(0, (widths[column] ?? 0) - [...cell].length))).join(" | ")
      .trimEnd();
  return [line(head), widths.map((width) => "-".repeat(width)).join("-|-"), ...body.map(line)].join("\n");
}

function oneLine(text: string, longest: number): string {
  const line = [...text.replaceAll("\n", "⏎")];
  return line.length > longest ? `${line.slice(0, longest - 1).join("")}…` : line.join("");
}
