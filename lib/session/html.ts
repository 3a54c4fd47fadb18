/**
 * Reads a login page's forms, links and messages. It isn't a browser: scripts don't run.
 *
 * @module
 */

/** A form element. */
export interface Form {
  /** Target of the form. Undefined means the page's own address. */
  readonly action: string | undefined;
  /** Whether the form is sent by POST. */
  readonly post: boolean;
  /** Input fields by name. */
  readonly fields: ReadonlyMap<string, { readonly hidden: boolean; readonly value: string }>;
}

const TAG = /<(\/?[a-z][a-z0-9]*)((?:[^<>"']|"[^"]*"|'[^']*')*)>/gi;
const ATTRIBUTE = /([^\s=>"'/]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+)))?/g;
const ENTITIES: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: " " };

/** Returns the forms of a page. */
export function formsOf(html: string): Form[] {
  const forms: Form[] = [];
  let fields: Map<string, { hidden: boolean; value: string }> | undefined;
  for (const { name, attributes } of tagsOf(html)) {
    if (name === "form") {
      fields = new Map();
      forms.push({ action: attributes.get("action"), post: /^post$/i.test(attributes.get("method") ?? ""), fields });
    } else if (name === "/form") fields = undefined;
    else if (name === "input") {
      const hidden = /^hidden$/i.test(attributes.get("type") ?? "");
      fields?.set(attributes.get("name") ?? "", { hidden, value: attributes.get("value") ?? "" });
    }
  }
  return forms;
}

/** Returns the targets of a page's links, in document order. */
export function linksOf(html: string): string[] {
  return tagsOf(html).flatMap(({ name, attributes }) => name === "a" ? attributes.get("href") ?? [] : []);
}

/**
 * Returns the text of the first non-empty element with one of these IDs or classes, truncated. Returns "" if there is
 * none.
 */
export function wordsOf(html: string, marks: readonly string[]): string {
  for (const { attributes, end } of tagsOf(html)) {
    const own = `${attributes.get("id") ?? ""} ${attributes.get("class") ?? ""}`.split(/\s+/);
    if (!marks.some((mark) => own.includes(mark))) continue;
    const words = decode(/^[^<]*/.exec(seen(html).slice(end))?.[0] ?? "").replace(/\s+/g, " ").trim();
    if (words !== "") return words.slice(0, 200);
  }
  return "";
}

function tagsOf(html: string): { name: string; attributes: Map<string, string>; end: number }[] {
  return [...seen(html).matchAll(TAG)].map(({ 0: tag, 1: name = "", 2: rest = "", index }) => ({
    name: name.toLowerCase(),
    attributes: new Map(
      [...rest.matchAll(ATTRIBUTE)].map(([, key = "", ...values]) => [
        key.toLowerCase(),
        decode(values.find((value) => value !== undefined) ?? ""),
      ]),
    ),
    end: index + tag.length,
  }));
}

/**
 * Removes comments and scripts, in which tags don't count; an unclosed one extends to the end. Truncates the page to
 * 100,000 characters, more than a login page needs.
 */
function seen(html: string): string {
  return html.slice(0, 100_000).replace(/<!--[^]*?(?:-->|$)|<(script|style)\b[^]*?(?:<\/\1\s*>|$)/gi, "");
}

function decode(text: string): string {
  return text.replace(/&(?:#(\d{1,7})|#x([0-9a-f]{1,6})|([a-z]+));/gi, (entity, decimal, hex, name) => {
    const code = decimal ? Number(decimal) : parseInt(hex, 16);
    if (name !== undefined) return ENTITIES[name] ?? entity;
    return code <= 0x10ffff ? String.fromCodePoint(code) : entity;
  });
}
