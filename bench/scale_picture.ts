/**
 * Draws a run of `deno task scale` as SVG: commands a second, how long they took, memory and processor, over time.
 *
 * @module
 */

import type { Share } from "./profile.ts";

/** Path of the picture in the README. */
export const scaleFile: URL = new URL("scale.svg", import.meta.url);

/** What happened in one stretch of a run. Times are in milliseconds, from acknowledgement to PATCH. */
export interface Window {
  /** When it began, in seconds since the start. */
  readonly at: number;
  /** Its length in seconds. */
  readonly seconds: number;
  /** Commands a second that were aimed at. 0: waited until everything was done. */
  readonly rate: number;
  /** Commands whose messages were acknowledged. */
  readonly given: number;
  /** Commands that were carried out. */
  readonly done: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  /** Resident memory of the operator, in MiB. */
  readonly rssMiB: number;
  /** The same without pages of files. */
  readonly withoutFilesMiB: number;
  /** Processor time of the operator and of servers and phones, in % of one core. */
  readonly operatorCpu: number;
  readonly sandboxCpu: number;
}

/** Commands at one rate. */
export interface Step {
  readonly rate: number;
  readonly given: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  /** Processor time of the operator for each, in milliseconds. */
  readonly cpuMsEach: number;
}

/** A run. */
export interface Recording {
  readonly at: string;
  readonly machine: string;
  readonly size: { readonly rooms: number; readonly users: number; readonly targets: number };
  readonly windows: readonly Window[];
  /** The steady rate, then the higher ones, up to the first that was too high. */
  readonly steps: readonly Step[];
  /** Where the operator's main thread is at the last rate. */
  readonly shares: readonly Share[];
}

/** If half of the commands take longer than this, the operator no longer keeps up. */
export const bentMs = 1_000;

const shortSeconds = 3;
const width = 760, left = 150, right = 20, height = 470;

/** Draws a run. The SVG also contains it as JSON. */
export function drawScale(recording: Recording): string {
  const { windows, steps, size } = recording;
  const end = Math.max(...windows.map(({ at, seconds }) => at + seconds));
  const x = (at: number) => Number((left + at / end * (width - left - right)).toFixed(1));
  const parts: string[] = [];
  const bottom = height - 30;
  const minutes = end > 300 ? 2 : 1;
  for (let minute = 0; minute * 60 <= end; minute += minutes) {
    parts.push(
      `<line x1="${x(minute * 60)}" y1="50" x2="${x(minute * 60)}" y2="${bottom}" class="rule"/>`,
      `<text x="${x(minute * 60)}" y="${bottom + 18}" class="small" text-anchor="middle">${minute} min</text>`,
    );
  }
  const middle = ({ at, seconds }: Window) => x(at + seconds / 2);
  // The last one before a change of the rate may be too short to tell anything.
  const long = windows.filter(({ seconds }) => seconds >= shortSeconds);
  const active = long.filter(({ given }) => given > 0);

  const most = Math.max(...windows.map(({ rate }) => rate), ...long.map(({ done, seconds }) => done / seconds));
  const perSecond = panel({ base: 130, high: 70, from: 0, to: most, title: "commands", unit: "a second" });
  const offered = windows.flatMap(({ at, seconds, rate }, index) => [
    `${index === 0 ? "M" : "L"}${x(at)} ${perSecond(rate)}`,
    `H${x(at + seconds)}`,
  ]);
  parts.push(`<path d="${offered.join(" ")}" class="offered"/>`);
  parts.push(line(long.map((window) => [middle(window), perSecond(window.done / window.seconds)]), "done"));

  const logarithm = (ms: number) => Math.log10(Math.max(1, ms));
  const ms = panel({ base: 270, high: 110, from: 0, to: 4, title: "→ PATCH", unit: "ms; p99, p50", log: true });
  parts.push(line(active.map((window) => [middle(window), ms(logarithm(window.p99))]), "p99"));
  parts.push(line(active.map((window) => [middle(window), ms(logarithm(window.p50))]), "p50"));

  const rss = Math.ceil(Math.max(...windows.map(({ rssMiB }) => rssMiB)) / 50) * 50;
  const mebibytes = panel({ base: 350, high: 50, from: 0, to: rss, title: "memory", unit: "MiB" });
  for (const [of, className] of [["rssMiB", "rss"], ["withoutFilesMiB", "private"]] as const) {
    const tops = windows.flatMap((window) => [
      `L${x(window.at)} ${mebibytes(window[of])}`,
      `H${x(window.at + window.seconds)}`,
    ]);
    parts.push(`<path d="M${left} 350 ${tops.join(" ")} V350 Z" class="${className}"/>`);
  }
  parts.push(
    legend(153, [["p99", "p99"], ["p50", "p50"]]),
    legend(293, [["rss", "resident"], ["private", "without pages of files"]]),
    legend(bottom - 67, [["done", "operator"], ["sandbox", "servers and phones"]]),
  );

  const cpu = panel({ base: bottom, high: 60, from: 0, to: 100, title: "processor", unit: "% of a core" });
  parts.push(line(long.map((window) => [middle(window), cpu(Math.min(130, window.sandboxCpu))]), "sandbox"));
  parts.push(line(long.map((window) => [middle(window), cpu(Math.min(130, window.operatorCpu))]), "done"));

  const last = steps.at(-1);
  const title = `${size.rooms} rooms, ${size.users} users, ${size.targets} targets: ` +
    (last !== undefined && last.p50 > bentMs
      ? `no longer keeps up at ${last.rate} commands a second`
      : `keeps up at ${last?.rate} commands a second`);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="Commands a second, how long they took, memory and processor time over time">
<metadata>${escaped(JSON.stringify(recording))}</metadata>
<style>
text { font: 14px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
.card { fill: #fff; stroke: #d8dde3 } .rule { stroke: #e6e9ed } .label, .title { fill: #1b1d22 } .small { font-size: 12px; fill: #7a8290 }
.title { font-weight: 600 } path { fill: none; stroke-width: 1.5 } .offered { stroke: #7a8290; stroke-dasharray: 3 3 }
.done { stroke: #d9542b } .p99 { stroke: #d9542b } .p50 { stroke: #3a9d5d } .sandbox { stroke: #7a8290 }
.rss, .private { stroke: none; fill: #7b61c9; opacity: 0.4 } rect.done, rect.p99 { fill: #d9542b } rect.p50 { fill: #3a9d5d } rect.sandbox { fill: #7a8290 }
@media (prefers-color-scheme: dark) {
.card { fill: #15171b; stroke: #30343b } .rule { stroke: #282c33 } .label, .title { fill: #ebeef2 } .small { fill: #a9b2bc }
}
</style>
<rect x="0.5" y="0.5" width="${width - 1}" height="${height - 1}" rx="10" class="card"/>
<text x="20" y="30" class="title">${escaped(title)}</text>
${parts.join("\n")}
</svg>
`;

  /** Draws the label and two or more marks of a panel, and returns the height of a value. */
  function panel(
    { base, high, from, to, title, unit, log = false }: {
      base: number;
      high: number;
      from: number;
      to: number;
      title: string;
      unit: string;
      log?: boolean;
    },
  ): (value: number) => number {
    const y = (value: number) => Number((base - (value - from) / (to - from) * high).toFixed(1));
    const marks = log ? Array.from({ length: to - from + 1 }, (_, index) => from + index) : [from, to];
    for (const mark of marks) {
      const shown = log ? (10 ** mark).toLocaleString("en") : Math.round(mark);
      parts.push(
        `<line x1="${left}" y1="${y(mark)}" x2="${width - right}" y2="${y(mark)}" class="rule"/>`,
        `<text x="${left - 6}" y="${y(mark) + 4}" class="small" text-anchor="end">${shown}</text>`,
      );
    }
    const middle = base - high / 2;
    parts.push(`<text x="16" y="${middle}" class="label">${title}</text>`);
    parts.push(`<text x="16" y="${middle + 15}" class="small">${unit}</text>`);
    return y;
  }
}

/** Draws what colours mean, at the right end of a line. */
function legend(y: number, entries: readonly (readonly [className: string, meaning: string])[]): string {
  let end = width - right;
  return entries.toReversed().map(([className, meaning]) => {
    const text = `<text x="${end}" y="${y}" class="small" text-anchor="end">${meaning}</text>`;
    end -= meaning.length * 6.8 + 16;
    const mark = `<rect x="${end.toFixed(1)}" y="${y - 9}" width="10" height="10" class="${className}"/>`;
    end -= 14;
    return text + mark;
  }).join("\n");
}

function line(points: readonly (readonly [x: number, y: number])[], className: string): string {
  return `<path d="${
    points.map(([x, y], index) => `${index === 0 ? "M" : "L"}${x} ${y}`).join(" ")
  }" class="${className}"/>`;
}

function escaped(text: string): string {
  return text.replaceAll(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);
}

/** Extracts the run from a picture. */
export function recordingIn(svg: string): Recording {
  const [, json = ""] = /<metadata>([^<]*)<\/metadata>/.exec(svg) ?? [];
  return JSON.parse(json.replaceAll(/&#(\d+);/g, (_, code) => String.fromCharCode(Number(code))));
}
