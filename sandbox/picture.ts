/**
 * `deno task picture`: plays the demo's conversation and draws it as a client would show it, in light and dark, for the
 * README. Tests draw it again, so that it stays equal to what the operator says.
 *
 * @module
 */

import { withoutAcknowledgement } from "./person/mod.ts";
import { wrap } from "./terminal/text.ts";
import { takeNoArguments } from "./program.ts";
import { Scene } from "./scene.ts";
import { playScript } from "./script.ts";
import { nameFor } from "./stage.ts";

/** Path of the picture. */
export const pictureFile: URL = new URL("../docs/conversation.svg", import.meta.url);

/** A message to draw. */
export interface Drawn {
  /** Name of the sender. */
  readonly name: string;
  /** HTML, limited to the tags that the operator uses. */
  readonly html: string;
  /** Whether it is a notice, which doesn't notify. */
  readonly quiet: boolean;
  /** Whether it was edited, apart from an acknowledgement that a slow answer replaces. */
  readonly edited: boolean;
}

/** Plays the demo's conversation and returns the part for the picture: a start, a status, a stranger, a stop. */
export async function conversation(): Promise<Drawn[]> {
  await using scene = await Scene.open({ ports: { homeserver: 0, kubernetes: 0 }, idleStop: "30m" });
  await using people = new AsyncDisposableStack();
  const cast = await scene.cast(people);
  await playScript(cast, () => {});
  const { person, stranger, roomId } = cast;
  const messages = person.messages(roomId);
  const about = (eventId: string) => messages.filter((message) => message.about === eventId);
  const said = (text: string) => messages.filter(({ sender, body }) => sender === person.userId && body === text);
  const exchange = (text: string, place: number) => {
    const command = said(text).at(place);
    return command === undefined ? [] : [command, ...about(command.eventId)];
  };
  const ignored = messages.filter(({ sender }) => sender === stranger.userId).slice(0, 1);
  const shown = [...exchange("start", 0), ...exchange("status", -2), ...ignored, ...exchange("stop", 0)];
  return shown.map(({ sender, body, html, kind, earlier }) => ({
    name: nameFor(person, sender),
    html: html ?? escaped(body),
    quiet: kind === "notice",
    edited: earlier.some((text) => withoutAcknowledgement(text) !== ""),
  }));
}

const width = 640;
const lineHeight = 21;
const colours: Readonly<Record<string, string>> = { you: "#0086e6", toggle: "#d9542b", mallory: "#7a8290" };

/** Draws messages as SVG. */
export function draw(messages: readonly Drawn[]): string {
  let y = 64;
  const parts: string[] = [];
  let last = "";
  for (const { name, html, quiet, edited } of messages) {
    const begins = name !== last;
    last = name;
    if (begins) {
      const colour = colours[name] ?? "#7a8290";
      y += 16;
      parts.push(
        `<circle cx="34" cy="${y + 8}" r="14" fill="${colour}"/>` +
          `<text x="34" y="${y + 13}" class="initial">${name.charAt(0).toUpperCase()}</text>` +
          `<text x="60" y="${y + 4}" fill="${colour}" class="name">${escaped(name)}</text>`,
      );
      y += 4;
    }
    for (const line of html.split("<br>").flatMap((part) => part.length > 90 ? wrapped(part) : [part])) {
      y += lineHeight;
      parts.push(`<text x="60" y="${y}" class="${quiet ? "quiet" : "said"}">${spans(line)}</text>`);
    }
    if (edited) {
      const [text = ""] = parts.splice(-1);
      parts.push(text.replace("</text>", ' <tspan class="edited">(edited)</tspan></text>'));
    }
    y += 3;
  }
  const height = y + 22;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="A conversation with the operator">
<style>
text { font: 15px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; white-space: pre }
.card { fill: #fff; stroke: #d8dde3 } .rule { stroke: #e6e9ed } .said, .room { fill: #1b1d22 } .quiet { fill: #565d68 }
.room { font-weight: 600 } .name { font-size: 13px; font-weight: 600 } .edited, .lock { font-size: 12px; fill: #8a919c }
.initial { fill: #fff; font-size: 13px; font-weight: 600; text-anchor: middle }
.code { font-family: ui-monospace, SFMono-Regular, Menlo, monospace; font-size: 13px } .bold { font-weight: 600 }
@media (prefers-color-scheme: dark) {
.card { fill: #15171b; stroke: #30343b } .rule { stroke: #282c33 } .said, .room { fill: #ebeef2 } .quiet { fill: #a9b2bc }
}
</style>
<rect x="0.5" y="0.5" width="${width - 1}" height="${height - 1}" rx="10" class="card"/>
<text x="20" y="32" class="room">OpenClaw</text><text x="${
    width - 20
  }" y="32" class="lock" text-anchor="end">🔒 end-to-end encrypted</text>
<line x1="0" y1="50" x2="${width}" y2="50" class="rule"/>
${parts.join("\n")}
</svg>
`;
}

/** Wraps HTML that is too long for one line. Drops the tags then. */
function wrapped(html: string): string[] {
  return wrap(html.replaceAll(/<[^>]*>/g, ""), 78);
}

/** Converts bold and code to SVG. Other HTML becomes plain text. */
function spans(html: string): string {
  return html.replaceAll("<b>", '<tspan class="bold">').replaceAll("<code>", '<tspan class="code">')
    .replaceAll(/<\/(?:b|code)>/g, "</tspan>").replaceAll(/<\/?(?!tspan|\/tspan)[^>]*>/g, "");
}

function escaped(text: string): string {
  return text.replaceAll(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);
}

if (import.meta.main) {
  takeNoArguments();
  await Deno.writeTextFile(pictureFile, draw(await conversation()));
  Deno.exit(0);
}
