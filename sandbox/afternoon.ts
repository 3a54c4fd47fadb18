/**
 * `deno task afternoon`: lets the demo's agent sleep and wake for some minutes and draws the result for the docs: who
 * wrote when, the Deployment's replicas, and the memory that its pods request while they run.
 *
 * @module
 */

import type { WorkloadView } from "./kubernetes/mod.ts";
import { takeNoArguments } from "./program.ts";
import { Scene } from "./scene.ts";
import { nameFor } from "./stage.ts";

/** Path of the picture. */
export const afternoonFile: URL = new URL("../docs/afternoon.svg", import.meta.url);

/** Recording of a run. Times are seconds since its start. */
export interface Recording {
  readonly idleStop: string;
  readonly seconds: number;
  readonly messages: readonly { readonly at: number; readonly who: string; readonly text: string }[];
  /** Every change of the replica counts. */
  readonly replicas: readonly { readonly at: number; readonly desired: number; readonly ready: number }[];
}

/** Messages, with their times in seconds since the start. */
const conversation: readonly (readonly [at: number, text: string])[] = [
  [5, "Good afternoon! What is on today?"],
  [20, "Move the dentist to Friday."],
  [35, "Thanks."],
  [150, "Remind me to buy milk."],
  [175, "And bread."],
  [290, "Good night."],
];
const SECONDS = 390;
const IDLE_STOP = "1m";
/** Memory request that is assumed for such an agent. Pods of the sandbox request none. */
const REQUEST_MIB = 1_024;

/** Plays the conversation in real time and records it. */
export async function record(): Promise<Recording> {
  await using scene = await Scene.open({ ports: { homeserver: 0, kubernetes: 0 }, idleStop: IDLE_STOP });
  await using people = new AsyncDisposableStack();
  const { person, agent, agentRoomId, kubernetes } = await scene.cast(people);
  const began = performance.now();
  const now = () => Math.round((performance.now() - began) / 100) / 10;
  const messages: Recording["messages"][number][] = [];
  const replicas: Recording["replicas"][number][] = [];
  const look = () => {
    const [workload] = kubernetes.workloads();
    const last = replicas.at(-1);
    if (workload === undefined) return;
    const { desired, ready } = workload as WorkloadView;
    if (last?.desired !== desired || last.ready !== ready) replicas.push({ at: now(), desired, ready });
  };
  look();
  using _watching = kubernetes.onChange(look);
  using _listening = person.listen(({ roomId, sender, body }) => {
    if (roomId === agentRoomId) messages.push({ at: now(), who: nameFor(person, sender), text: body });
  });
  const waitUntil = (at: number) => new Promise((resolve) => setTimeout(resolve, Math.max(0, at - now()) * 1_000));
  for (const [at, text] of conversation) {
    await waitUntil(at);
    await person.say(agentRoomId, text);
  }
  await waitUntil(SECONDS);
  const answers = messages.filter(({ who }) => who === agent.userId.slice(1, agent.userId.indexOf(":"))).length;
  if (answers !== conversation.length) {
    throw new Error(`Cannot draw it: the agent has answered ${answers} of ${conversation.length} messages`);
  }
  return { idleStop: IDLE_STOP, seconds: SECONDS, messages, replicas };
}

const width = 760, left = 118, right = 20, height = 330;
const lanes: readonly (readonly [who: string, colour: string])[] = [
  ["you", "#0086e6"],
  ["clawd", "#3a9d5d"],
  ["toggle", "#d9542b"],
];

/** Draws a recording as SVG. The SVG also contains the recording as JSON. */
export function drawAfternoon(recording: Recording): string {
  const { seconds, messages, replicas, idleStop } = recording;
  const x = (at: number) => (left + at / seconds * (width - left - right)).toFixed(1);
  const parts: string[] = [];
  for (let minute = 0; minute * 60 <= seconds; minute += 1) {
    parts.push(
      `<line x1="${x(minute * 60)}" y1="50" x2="${x(minute * 60)}" y2="292" class="rule"/>`,
      `<text x="${x(minute * 60)}" y="312" class="small" text-anchor="middle">${minute} min</text>`,
    );
  }
  lanes.forEach(([who, colour], index) => {
    const y = 72 + index * 26;
    parts.push(`<text x="${left - 12}" y="${y + 4}" class="label" text-anchor="end">${who}</text>`);
    for (const { at, text } of messages.filter((message) => message.who === who)) {
      parts.push(`<circle cx="${x(at)}" cy="${y}" r="5" fill="${colour}"><title>${escaped(text)}</title></circle>`);
    }
  });
  parts.push(`<text x="${left - 12}" y="172" class="label" text-anchor="end">replicas</text>`);
  parts.push(`<path d="${steps(replicas.map(({ at, desired }) => [at, desired]), 182, 24)}" class="wanted"/>`);
  parts.push(
    `<path d="${steps(replicas.map(({ at, ready }) => [at, ready]), 182, 24)} L${x(seconds)} 182 L${
      x(0)
    } 182 Z" class="ready"/>`,
  );
  parts.push(`<text x="${left - 12}" y="240" class="label" text-anchor="end">memory</text>`);
  parts.push(
    `<text x="${left - 12}" y="256" class="small" text-anchor="end">requests ${REQUEST_MIB / 1_024} GiB</text>`,
  );
  const memory = steps(replicas.map(({ at, desired }) => [at, desired]), 288, 56);
  parts.push(`<path d="${memory} L${x(seconds)} 288 L${x(0)} 288 Z" class="memory"/>`);
  const awake = awakeSeconds(recording);
  const asleep = Math.round((1 - awake / seconds) * 100);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="Messages, replicas and memory of an agent that sleeps and wakes">
<metadata>${escaped(JSON.stringify(recording))}</metadata>
<style>
text { font: 14px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
.card { fill: #fff; stroke: #d8dde3 } .rule { stroke: #e6e9ed } .label, .title { fill: #1b1d22 } .small { font-size: 12px; fill: #7a8290 }
.title { font-weight: 600 } .wanted { fill: none; stroke: #7a8290; stroke-dasharray: 3 3 } .ready { fill: #3a9d5d; opacity: 0.75 } .memory { fill: #7b61c9; opacity: 0.6 }
@media (prefers-color-scheme: dark) {
.card { fill: #15171b; stroke: #30343b } .rule { stroke: #282c33 } .label, .title { fill: #ebeef2 } .small { fill: #a9b2bc }
}
</style>
<rect x="0.5" y="0.5" width="${width - 1}" height="${height - 1}" rx="10" class="card"/>
<text x="20" y="30" class="title">An agent with IDLE_STOP=${idleStop}: asleep for ${asleep} % of the time</text>
${parts.join("\n")}
</svg>
`;

  /** Draws a step line: each value holds until the next one. */
  function steps(values: readonly (readonly [at: number, value: number])[], base: number, unit: number): string {
    const points = values.flatMap(([at, value], index) => {
      const y = base - value * unit;
      return index === 0 ? [`M${x(at)} ${y}`] : [`H${x(at)}`, `V${y}`];
    });
    return [...points, `H${x(seconds)}`].join(" ");
  }
}

/** Returns the seconds during which at least one replica was desired. */
function awakeSeconds({ seconds, replicas }: Recording): number {
  return replicas.reduce((sum, { at, desired }, index) => {
    const until = replicas[index + 1]?.at ?? seconds;
    return desired > 0 ? sum + until - at : sum;
  }, 0);
}

function escaped(text: string): string {
  return text.replaceAll(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);
}

/** Extracts the recording from a picture. */
export function recordingIn(svg: string): Recording {
  const [, json = ""] = /<metadata>([^<]*)<\/metadata>/.exec(svg) ?? [];
  return JSON.parse(json.replaceAll(/&#(\d+);/g, (_, code) => String.fromCharCode(Number(code))));
}

if (import.meta.main) {
  takeNoArguments();
  await Deno.writeTextFile(afternoonFile, drawAfternoon(await record()));
  Deno.exit(0);
}
