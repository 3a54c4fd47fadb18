/**
 * Whatever happens in whatever order, a target is turned on and off for a reason, and once for each: commands, messages
 * to its agent, its schedule and its timers, while others change its count, the operator is restarted and killed, and
 * its clock is set.
 */

import assert from "node:assert/strict";
import fc from "fast-check";
import { Schedule } from "../../lib/operator/schedule.ts";
import type { StoredCommand } from "../../lib/operator/target_command.ts";
import { alice, type Running, self, settled, World } from "./fakes.ts";

const second = 1_000, minute = 60 * second, hour = 60 * minute, day = 24 * hour;
const agent = "@clawd:example.org";
/** Where the agent is; commands are given elsewhere. */
const agentRoom = "!agent:example.org";
/** A Thursday, midnight. */
const fromMs = Date.parse("2026-01-08T00:00Z");

type Step =
  | { readonly kind: "command"; readonly words: string }
  /** To the agent. */
  | { readonly kind: "message" }
  | { readonly kind: "wait"; readonly ms: number }
  /** For a time that is over right before or after an up-time begins or ends. */
  | { readonly kind: "start-until-edge"; readonly ms: number }
  /** To a moment right before or after an up-time begins or ends. */
  | { readonly kind: "wait-for-edge"; readonly ms: number }
  | { readonly kind: "kubectl"; readonly replicas: number }
  /** Down for so long and, where that is given, until about the begin or end that comes then. */
  | {
    readonly kind: "restart";
    readonly downMs: number;
    readonly until: number | undefined;
    readonly killed: string | undefined;
  }
  | { readonly kind: "set-clock"; readonly byMs: number };

/** A change of the count. */
interface Change {
  readonly before: number;
  readonly after: number;
  /** What it was made for: an event's id, an edge of the schedule, a timer's time, or somebody else's doing. */
  readonly cause: string;
  /** By the operator's clock, milliseconds since the epoch. */
  readonly wallMs: number;
  /** By a clock that nobody sets, milliseconds. */
  readonly realMs: number;
}

const points = ["scale", "save", "queueAnswer", "scaler.read", "settle"].flatMap((
  call,
) => [`before ${call}`, `after ${call}`]);
const nearEdgeMs = fc.oneof(fc.integer({ min: -minute, max: minute }), fc.constantFrom(-16 * minute, 0));

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constant("command" as const),
        words: fc.constantFrom("start", "start 1h", "start 15m", "start 30m", "stop", "extend 15m", "status"),
      }),
    },
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constant("wait" as const),
        ms: fc.oneof(fc.nat(2 * minute), fc.nat(3 * hour)),
      }),
    },
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant("wait-for-edge" as const),
        ms: nearEdgeMs,
      }),
    },
    { weight: 3, arbitrary: fc.constant<Step>({ kind: "message" }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("start-until-edge" as const), ms: nearEdgeMs }) },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant("kubectl" as const), replicas: fc.constantFrom(0, 1, 3) }),
    },
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constant("restart" as const),
        downMs: fc.oneof(fc.constant(0), fc.nat(2 * minute), fc.nat(8 * hour)),
        until: fc.option(fc.integer({ min: -2 * minute, max: minute }), { nil: undefined }),
        killed: fc.option(fc.constantFrom(...points), { freq: 1, nil: undefined }),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constant("set-clock" as const),
        byMs: fc.oneof(fc.integer({ min: -10 * minute, max: 10 * minute }), fc.integer({ min: -day, max: day })),
      }),
    },
  ),
  { minLength: 3, maxLength: 14 },
);

const upTime = { alias: "clawdbot", days: [1, 2, 3, 4, 5, 6, 7], timeZone: "UTC" };
const schedules = fc.uniqueArray(fc.nat(24 * 4 - 1), { minLength: 2, maxLength: 6 })
  .map((quarters) => quarters.toSorted((one, other) => one - other).map((quarter) => quarter * 15))
  .map((minutes) =>
    minutes.slice(0, minutes.length - minutes.length % 2).flatMap((minute, index, all) =>
      index % 2 === 1
        ? []
        : [{ ...upTime, fromMinute: minute, toMinute: all[index + 1] ?? 0, text: `${minute}-${all[index + 1]}` }]
    )
  );

/** A world that notes why its target's count was changed, as far as that was written down before. */
class Witness extends World {
  readonly changes: Change[] = [];
  readonly #faults: unknown[] = [];
  readonly schedule: Schedule;
  /** How far the clock was set, in all. */
  setByMs = 0;
  /** When the agent was last spoken to, by a clock that nobody sets; and the last time that the operator must know of. */
  #spokeAtMs = -Infinity;
  #knownToSpeakAtMs = -Infinity;
  /** When a command was last obeyed, by the clock; undefined: it was set since. */
  obeyedAtMs: number | undefined;

  constructor(changes: NonNullable<ConstructorParameters<typeof World>[0]>) {
    super(changes);
    this.schedule = new Schedule(changes.schedule ?? []);
    this.clock.nowMs = fromMs;
    this.room(agentRoom, { joined: [alice, agent, self] });
  }

  /** Somebody speaks to the agent. */
  spoke(): void {
    this.#knownToSpeakAtMs = this.#spokeAtMs = this.clock.nowMs - this.setByMs;
  }

  override setScale(desired: number, alias?: string, manager?: string): void {
    const before = this.scale.desired;
    super.setScale(desired, alias, manager);
    const change = { before, after: desired, wallMs: this.clock.nowMs, realMs: this.clock.nowMs - this.setByMs };
    try {
      this.changes.push({ ...change, cause: manager === "kubectl" ? "others" : this.#cause() });
      this.#judge();
    } catch (error) {
      // Not for the operator to deal with.
      this.#faults.push(error);
    }
    if (desired === 0) this.#knownToSpeakAtMs = -Infinity;
  }

  /** Throws if a change was made that shouldn't have been. */
  check(): void {
    if (this.#faults.length > 0) throw this.#faults[0];
  }

  /** What came before can't be told by that clock any more. */
  setClock(byMs: number): void {
    this.clock.set(byMs);
    this.setByMs += byMs;
    this.obeyedAtMs = undefined;
    this.#knownToSpeakAtMs = -Infinity;
  }

  /** A life of the operator ends: of what was written in its last minute nothing is known any more. */
  ended(): void {
    if (this.clock.nowMs - this.setByMs - this.#spokeAtMs <= minute) this.#knownToSpeakAtMs = -Infinity;
  }

  /** Nobody has spoken to the agent for long. */
  get isQuiet(): boolean {
    return this.clock.nowMs - this.setByMs - this.#spokeAtMs > 2 * (this.config.idleStopMs ?? 0);
  }

  /** How long it is until so long after the next edge. */
  untilEdgeMs(afterMs: number): number {
    const { nextBegin, nextEnd } = this.schedule.at(this.clock.nowMs);
    const next = Math.min(nextBegin?.atMs ?? Infinity, nextEnd?.atMs ?? Infinity);
    return Number.isFinite(next) ? Math.max(0, next + afterMs - this.clock.nowMs) : 0;
  }

  /** The intent that was written down last. */
  #cause(): string {
    const { timer, schedule, idle } = this.remembered?.targets["deployment/clawdbot/clawdbot"] ?? {};
    const commands = this.store.journal.unsettled<StoredCommand>(0).flatMap(({ event, progress }) =>
      progress.state === "begun" ? progress.command.parts.map(({ intent }) => ({ intent, cause: event.eventId })) : []
    );
    const edge = this.schedule.at(this.clock.nowMs).previous;
    const all = [
      ...commands,
      { intent: timer?.intent, cause: `timer ${timer?.dueAtMs}` },
      { intent: idle?.warning?.intent, cause: `idle ${idle?.warning?.saidAtMs}` },
      { intent: schedule?.intent, cause: `${edge?.kind} ${edge?.atMs}` },
    ];
    const mine = all.filter(({ intent }) => intent?.resourceVersion === `${Number(this.scale.resourceVersion) - 1}`);
    assert.equal(mine.length, 1, `one reason: ${mine.map(({ cause }) => cause)}`);
    return mine[0]?.cause ?? "";
  }

  #judge(): void {
    const change = this.changes.at(-1) ?? assert.fail();
    const { cause, after, wallMs, realMs } = change;
    if (cause === "others") return;
    const all = this.changes.map((each) => each.cause);
    assert.equal(all.indexOf(cause), all.length - 1, `${cause} was acted on twice`);
    if (cause.startsWith("$")) return void (this.obeyedAtMs = wallMs);
    const [kind, atMs = ""] = cause.split(" ");
    assert.equal(after > 0, kind === "begin", `${cause} sets ${after}`);
    assert.ok(Number(atMs) <= wallMs, `${cause} is yet to come`);
    const former = this.changes.slice(0, -1).findLast((each) => each.cause !== "others");
    if (former !== undefined && !former.cause.startsWith("$") && (former.after > 0) !== (after > 0)) {
      const wasSet = this.setByMs !== former.wallMs - former.realMs;
      const apartMs = wasSet ? Math.abs(wallMs - former.wallMs) : wallMs - former.wallMs;
      assert.ok(apartMs >= minute, `${cause} follows on ${former.cause} after ${apartMs} ms`);
    }
    const { idleStopMs } = this.config;
    if ((kind === "idle" || kind === "end") && idleStopMs !== undefined) {
      // Life is written down once a minute at most.
      const quietMs = realMs - this.#knownToSpeakAtMs + minute;
      assert.ok(quietMs >= idleStopMs, `${cause} stops it ${quietMs} ms after somebody spoke to it`);
    }
    if (kind === "timer" || kind === "idle") return;
    const obeyedAtMs = this.obeyedAtMs ?? -Infinity;
    assert.ok(Number(atMs) >= obeyedAtMs, `${cause} is acted on, and a command was obeyed at ${obeyedAtMs}`);
  }
}

/** Lives all of it; the world judges each change as it is made. */
async function live(world: Witness, steps: readonly Step[]): Promise<void> {
  let running: Running | undefined;
  const start = (killAt?: string): void => {
    const life = running = world.start(killAt);
    life.ended.then(() => {
      if (running !== life) return;
      running = undefined;
      world.ended();
    });
  };
  const end = async (): Promise<void> => {
    await running?.[Symbol.asyncDispose]();
    running = undefined;
    world.ended();
  };
  try {
    start();
    await settled();
    for (const step of steps) {
      if (running === undefined) start();
      switch (step.kind) {
        case "command":
          await running?.receive(step.words);
          break;
        case "message":
          await running?.receive("hello", { roomId: agentRoom });
          world.spoke();
          break;
        case "wait":
          await world.clock.advance(step.ms);
          break;
        case "start-until-edge":
          await running?.receive(`start ${Math.round(Math.max(minute, world.untilEdgeMs(step.ms)) / second)}s`);
          break;
        case "wait-for-edge":
          await world.clock.advance(world.untilEdgeMs(step.ms));
          break;
        case "kubectl":
          world.setScale(step.replicas, undefined, "kubectl");
          break;
        case "restart":
          await end();
          world.clock.nowMs += step.downMs;
          if (step.until !== undefined) world.clock.nowMs += world.untilEdgeMs(step.until);
          start(step.killed);
          break;
        case "set-clock":
          world.setClock(step.byMs);
      }
      await settled();
      world.check();
    }
    // However it came to this, the next edge is followed.
    await end();
    start();
    await settled();
    await followsNextEdge(world);
  } finally {
    await end();
  }
}

/** Goes on to an edge that hasn't been followed, and sees the target as it is to be then. */
async function followsNextEdge(world: Witness): Promise<void> {
  const lastMs = world.remembered?.targets["deployment/clawdbot/clawdbot"]?.schedule?.edgeAtMs ?? 0;
  const { nextBegin, nextEnd } = world.schedule.at(Math.max(lastMs, world.clock.nowMs));
  const [next] = [nextBegin, nextEnd].filter((edge) => edge !== undefined).toSorted((a, b) => a.atMs - b.atMs);
  if (next === undefined || next.atMs - world.clock.nowMs > day) return;
  await world.clock.advance(next.atMs - world.clock.nowMs - second);
  const timed = world.remembered?.targets["deployment/clawdbot/clawdbot"]?.timer;
  await world.clock.advance(2 * second);
  world.check();
  const { timer } = world.remembered?.targets["deployment/clawdbot/clawdbot"] ?? {};
  if (next.kind === "begin") assert.ok(world.scale.desired > 0, "it is on when an up-time has begun");
  else if (timed === undefined && timer === undefined && world.isQuiet) {
    assert.equal(world.scale.desired, 0, "it is off when an up-time has ended");
  }
}

Deno.test("Operator turns a target on and off for a reason, in the cases that were found at random", async (t) => {
  const rows: [name: string, fromMinute: number, toMinute: number, idleStopMs: number, steps: Step[]][] = [
    [
      "the clock is set back behind a warning, and a message comes",
      ...[75, 90, hour] as const,
      [
        { kind: "message" },
        { kind: "wait-for-edge", ms: -16 * minute },
        { kind: "set-clock", byMs: -64 * minute - 1 },
        { kind: "message" },
        { kind: "wait-for-edge", ms: -16 * minute },
      ],
    ],
    [
      "a message comes when an up-time has just begun, long after another, and then a restart",
      ...[510, 540, hour] as const,
      [
        { kind: "message" },
        { kind: "wait-for-edge", ms: 0 },
        { kind: "restart", downMs: 0, until: undefined, killed: undefined },
        { kind: "message" },
        { kind: "wait-for-edge", ms: -16 * minute },
      ],
    ],
    [
      "the clock is set back behind a message, and an up-time ends when it has caught up",
      ...[15, 150, 10 * minute] as const,
      [
        { kind: "wait-for-edge", ms: 0 },
        { kind: "restart", downMs: 0, until: -1, killed: undefined },
        { kind: "message" },
        { kind: "kubectl", replicas: 3 },
        { kind: "set-clock", byMs: -20 * minute + second },
      ],
    ],
  ];
  for (const [name, fromMinute, toMinute, idleStopMs, steps] of rows) {
    await t.step(name, async () => {
      const schedule = [{ ...upTime, fromMinute, toMinute, text: `${fromMinute}-${toMinute}` }];
      const world = new Witness({ schedule, idleStopMs, agents: [{ alias: "clawdbot", userId: agent }] });
      world.mayWatch = false;
      await live(world, steps);
    });
  }
});

Deno.test("Operator turns a target on and off for a reason, once for each, and never to and fro by itself", async () => {
  await fc.assert(
    fc.asyncProperty(
      schedules,
      fc.constantFrom(undefined, 10 * minute, 2 * hour),
      fc.constantFrom(undefined, 10 * minute, hour),
      fc.boolean(),
      steps,
      async (schedule, autoStopMs, idleStopMs, mayWatch, steps) => {
        const world = new Witness({ schedule, autoStopMs, idleStopMs, agents: [{ alias: "clawdbot", userId: agent }] });
        world.mayWatch = mayWatch;
        await live(world, steps);
      },
    ),
    { numRuns: 60 },
  );
});
