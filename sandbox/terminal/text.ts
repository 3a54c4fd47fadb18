/**
 * Width, truncation and wrapping of text in terminal columns.
 *
 * @module
 */

const segmenter = new Intl.Segmenter(undefined, { granularity: "grapheme" });
const invisible = /^[\p{Mn}\p{Me}\p{Cf}]*$/u;
const wide =
  /\p{Emoji_Presentation}|\ufe0f|[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}]|[\u3000-\u303e\uff01-\uff60\uffe0-\uffe6]/u;

/** Splits text into grapheme clusters. */
export function graphemes(text: string): string[] {
  return Array.from(segmenter.segment(text), ({ segment }) => segment);
}

/** Returns the number of columns (Unicode UAX #11, as terminals apply it: emoji and East Asian characters take two). */
export function widthOf(text: string): number {
  return graphemes(text).reduce((sum, each) => sum + (invisible.test(each) ? 0 : wide.test(each) ? 2 : 1), 0);
}

/** Removes control characters, Unicode line separators and bidirectional formatting. Keeps newlines. */
export function harmless(text: string): string {
  return text.replaceAll("\t", " ").replaceAll(/(?!\n)\p{Cc}|[\u2028-\u202e\u2066-\u2069]/gu, "");
}

/** Truncates text to a number of columns. Truncated text ends in `…`. */
export function cut(text: string, columns: number): string {
  if (widthOf(text) <= columns) return text;
  return columns < 1 ? "" : `${split(text, columns - 1, 0)[0]}…`;
}

/** Truncates or pads text to exactly a number of columns. */
export function fill(text: string, columns: number): string {
  const short = cut(text, columns);
  return short + " ".repeat(Math.max(0, columns - widthOf(short)));
}

/** Wraps text to a number of columns, at spaces if possible. */
export function wrap(text: string, columns: number): string[] {
  return text.split("\n").flatMap((paragraph) => {
    const lines: string[] = [];
    let rest = paragraph;
    while (widthOf(rest) > columns) {
      const [start, after] = split(rest, columns, 1);
      const space = after.startsWith(" ") ? start.length : start.lastIndexOf(" ");
      const end = space > 0 ? space : start.length;
      lines.push(rest.slice(0, end));
      rest = rest.slice(end).trimStart();
    }
    return [...lines, rest];
  });
}

/** Splits off as many characters as fit, but at least `least`. */
function split(text: string, columns: number, least: 0 | 1): [start: string, rest: string] {
  let start = "";
  let width = 0;
  for (const each of graphemes(text)) {
    width += widthOf(each);
    if (width > columns && (least === 0 || start !== "")) break;
    start += each;
  }
  return [start, text.slice(start.length)];
}
