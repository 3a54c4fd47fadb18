/**
 * Texts for people, plain and HTML at once, so that the two never say different things and nothing foreign gets into
 * the HTML unescaped. Knows nothing of what is said.
 *
 * @module
 */

/** A text in both forms. */
export interface Text {
  /** Plain text. */
  readonly plain: string;
  /** HTML of the same, in the subset that Matrix permits (Matrix spec v1.16, client-server API, 11.2.1.1). */
  readonly html: string;
}

/**
 * Tag of a template that makes both forms. Strings put in are escaped; texts put in keep their HTML.
 *
 * @example
 * ```ts
 * text`${bold("clawdbot")} is now off`;
 * ```
 */
export function text(words: TemplateStringsArray, ...values: readonly (string | number | Text)[]): Text {
  const parts = values.map((value) => typeof value === "object" ? value : verbatim(String(value)));
  return joined(words.flatMap((word, place) => [verbatim(word), ...parts.slice(place, place + 1)]), "");
}

/** A name that is to stand out. */
export function bold(name: string): Text {
  return { plain: name, html: `<b>${escape(name)}</b>` };
}

/** Something to be typed, or taken letter by letter. */
export function code(words: string): Text {
  return { plain: `\`${words}\``, html: `<code>${escape(words)}</code>` };
}

/** Somebody: apps show their name, and a link to them. */
export function user(userId: string): Text {
  const link = `https://matrix.to/#/${encodeURIComponent(userId)}`;
  return { plain: userId, html: `<a href="${link}">${escape(userId)}</a>` };
}

/** Lines under each other. */
export function lines(texts: readonly Text[]): Text {
  return { plain: texts.map(({ plain }) => plain).join("\n"), html: texts.map(({ html }) => html).join("<br>") };
}

/** Texts one after the other. */
export function joined(texts: readonly Text[], between: string): Text {
  return {
    plain: texts.map(({ plain }) => plain).join(between),
    html: texts.map(({ html }) => html).join(escape(between)),
  };
}

/** What somebody else has written, made fit for one line: white space drawn together, cut after so many characters. */
export function quoted(words: string, most = 100): Text {
  const line = [...words.replace(/[\s\p{Cc}\u202A-\u202E\u2066-\u2069]+/gu, " ").trim()];
  return verbatim(line.length > most ? `${line.slice(0, most).join("")}…` : line.join(""));
}

function verbatim(words: string): Text {
  return { plain: words, html: escape(words) };
}

function escape(words: string): string {
  return words.replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
}
