/**
 * Text in plain and HTML form. Both are made together, so that they always agree and foreign text is always escaped.
 *
 * @module
 */

/** Text in both forms. */
export interface Text {
  /** Plain text. */
  readonly plain: string;
  /** The same as HTML, in the subset that Matrix permits (Matrix spec v1.16, client-server API, 11.2.1.1). */
  readonly html: string;
}

/**
 * Template tag that makes both forms. Interpolated strings are escaped; interpolated texts keep their HTML.
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

/** Emphasizes a name. */
export function bold(name: string): Text {
  return { plain: name, html: `<b>${escape(name)}</b>` };
}

/** Marks literal text, such as a command to type. */
export function code(words: string): Text {
  return { plain: `\`${words}\``, html: `<code>${escape(words)}</code>` };
}

/** A user to be named. */
export interface Person {
  /** User id. */
  readonly userId: string;
  /** Display name; undefined if there is none. */
  readonly name?: string | undefined;
}

/** Names a user. Clients show the name as a link. */
export function user({ userId, name = userId }: Person): Text {
  const link = `https://matrix.to/#/${encodeURIComponent(userId)}`;
  const { plain, html } = quoted(name.trim() === "" ? userId : name);
  return { plain, html: `<a href="${link}">${html}</a>` };
}

/** Joins texts as lines. */
export function lines(texts: readonly Text[]): Text {
  return { plain: texts.map(({ plain }) => plain).join("\n"), html: texts.map(({ html }) => html).join("<br>") };
}

/** Joins texts with a separator. */
export function joined(texts: readonly Text[], between: string): Text {
  return {
    plain: texts.map(({ plain }) => plain).join(between),
    html: texts.map(({ html }) => html).join(escape(between)),
  };
}

/** Joins texts as an enumeration: `a`, `a and b`, `a, b and c`. */
export function enumerated(texts: readonly Text[], conjunction: "and" | "or"): Text {
  const last = texts.slice(-1);
  const others = texts.slice(0, -1);
  return joined(others.length === 0 ? last : [joined(others, ", "), ...last], ` ${conjunction} `);
}

/** Prepares foreign text for one line: collapses white space and truncates it to `most` characters. */
export function quoted(words: string, maxLength = 100): Text {
  const line = [...words.replace(/[\s\p{Cc}\u202A-\u202E\u2066-\u2069]+/gu, " ").trim()];
  return verbatim(line.length > maxLength ? `${line.slice(0, maxLength).join("")}…` : line.join(""));
}

/** Formats a count, such as `1 replica`. */
export function replicas(count: number): string {
  return `${count} ${count === 1 ? "replica" : "replicas"}`;
}

function verbatim(words: string): Text {
  return { plain: words, html: escape(words) };
}

function escape(words: string): string {
  return words.replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
}
