import assert from "node:assert/strict";
import { firstAnswer, type Message } from "../../sandbox/person/mod.ts";
import type { Fault } from "../../sandbox/homeserver/mod.ts";
import { Fixture, PATIENCE_MS } from "./fixture.ts";
import { roomOf } from "./sandbox_fixture.ts";
import { printTable } from "./table.ts";

const SEND = "/rooms/{roomId}/send/{type}/{transactionId}";
const SHARE = "/sendToDevice/{type}/{transactionId}";
const JOIN = "/rooms/{roomId}/join";
const TARGET = /\/deployments\/clawdbot$/;

/** Waits until the point is reached, after the steps that lead to it. */
type Reached = (roomId: string) => Promise<unknown>;

/** A point at which the operator is killed. */
interface Point {
  readonly name: string;
  /** Whether the operator is invited to a room instead of being given a command. */
  readonly joining?: boolean;
  /** Whether the operator must not have sent anything since its start. */
  readonly silent?: boolean;
  /** Whether the point is at, or needs, the read before a change, which a watch spares. */
  readonly reading?: boolean;
  /** Makes the servers stop at the point. `roomId` is where the command will be sent. */
  readonly arrange: (fixture: Fixture, faults: DisposableStack, roomId: string) => Reached | Promise<Reached>;
}

/** The homeserver receives a request and neither executes nor answers it. */
function held(method: string, path: string, skip = 0): Point["arrange"] {
  return (fixture, faults) => {
    // An error status: executing the request when the fault ends would mean that it was not lost.
    const answer = { status: 503 };
    const reached = strike(fixture, faults, { method, path, skip, times: 1, delayMs: Infinity, answer }, skip);
    return () => reached;
  };
}

/** The homeserver executes a request, but the response doesn't arrive. */
function lost(method: string, path: string, skip: number, isDone: (fixture: Fixture, roomId: string) => Reached) {
  return (fixture: Fixture, faults: DisposableStack, roomId: string): Reached => {
    const done = isDone(fixture, roomId);
    strike(fixture, faults, { method, path, skip, times: 1, after: true, delayMs: Infinity }, skip);
    return done;
  };
}

function strike(fixture: Fixture, faults: DisposableStack, fault: Fault, skip = 0): Promise<unknown> {
  faults.use(fixture.homeserver.fault({ ...fault, userId: fixture.operatorId }));
  let left = skip;
  return fixture.homeserver.requests.next(({ method, template, userId }) => {
    return method === fault.method && template === fault.path && userId === fixture.operatorId && left-- === 0;
  }, AbortSignal.timeout(PATIENCE_MS));
}

/** The API server receives a request, or more, and neither executes nor answers it. */
function unheard(method: string, path: RegExp, times = 1): Point["arrange"] {
  return (fixture, faults) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    class Telling extends RegExp {
      override test(text: string): boolean {
        const matches = super.test(text);
        if (matches) resolve();
        return matches;
      }
    }
    faults.use(fixture.kubernetes.fault({ method, path: new Telling(path), times, effect: "silence" }));
    return () => promise;
  };
}

/**
 * The API server answers no read. One of them is the command's, when Anna sees its acknowledgement: others may be looks
 * at what the change before has come to.
 */
function unread(fixture: Fixture, faults: DisposableStack, roomId: string): Reached {
  const reached = unheard("GET", TARGET, Infinity)(fixture, faults, roomId);
  const acknowledged = seen(1)(fixture, roomId);
  return async () => {
    await (await reached)(roomId);
    await acknowledged(roomId);
  };
}

/** The replica count has changed. The kill happens before the API server can respond. */
function scaled(fixture: Fixture, faults: DisposableStack): Reached {
  const { promise, resolve } = Promise.withResolvers<void>();
  const before = fixture.effects.length;
  faults.use(fixture.kubernetes.onChange(() => fixture.effects.length > before && resolve()));
  return () => promise;
}

/** The API server responds so slowly that the command is acknowledged before it is answered. */
function slowly(arrange: Point["arrange"]): Point["arrange"] {
  return (fixture, faults, roomId) => {
    faults.use(
      fixture.kubernetes.fault({
        method: "GET",
        path: TARGET,
        effect: { delayMs: 1_000 },
      }),
    );
    return arrange(fixture, faults, roomId);
  };
}

/** Anna sees one more answer than now. */
function answered(fixture: Fixture, roomId: string): Reached {
  const count = () => fixture.anna.messages(roomId).filter((message) => isAnswer(fixture, message)).length;
  const wanted = count() + 1;
  return () => fixture.anna.until(() => count() >= wanted || undefined, PATIENCE_MS);
}

function isAnswer(fixture: Fixture, message: Message): boolean {
  return message.sender === fixture.operatorId && firstAnswer(message) !== undefined;
}

/** Anna sees this many more messages of the operator than now. */
function seen(howMany: number): (fixture: Fixture, roomId: string) => Reached {
  return (fixture, roomId) => {
    const count = () => fixture.anna.messages(roomId).filter(({ sender }) => sender === fixture.operatorId).length;
    const wanted = count() + howMany;
    return () => fixture.anna.until(() => count() >= wanted || undefined, PATIENCE_MS);
  };
}

/** The sync response with the command is truncated. */
async function brokenSync(fixture: Fixture, faults: DisposableStack, roomId: string): Promise<Reached> {
  const next = strike(fixture, faults, { method: "GET", path: "/sync", times: 1, after: true, body: "drop" });
  // This ends the current poll, so that the next one is hit.
  await roomOf(fixture, roomId).sendChatter(fixture.anna.messages(roomId)[0]?.eventId ?? "");
  await next;
  return () => roomOf(fixture, roomId).caughtUp();
}

const points: readonly Point[] = [
  { name: "the sync answer broke off half-way", arrange: brokenSync },
  { name: "the event is stored, the next sync begun", arrange: held("GET", "/sync") },
  { name: "reading the target, unanswered", reading: true, arrange: unread },
  { name: "sharing the room key, not taken yet", silent: true, arrange: held("PUT", SHARE) },
  { name: "the acknowledgement not taken yet", reading: true, arrange: slowly(held("PUT", SEND)) },
  { name: "the acknowledgement taken, unanswered", reading: true, arrange: slowly(lost("PUT", SEND, 0, seen(1))) },
  { name: "PATCH not carried out yet", arrange: unheard("PATCH", /\/scale/) },
  { name: "PATCH carried out, unanswered", arrange: scaled },
  { name: "the answer not taken yet", arrange: held("PUT", SEND) },
  { name: "the answer taken, unanswered", arrange: lost("PUT", SEND, 0, seen(1)) },
  { name: "the answer seen", arrange: (fixture, _, roomId) => seen(1)(fixture, roomId) },
  { name: "the acknowledgement's edit not taken yet", reading: true, arrange: slowly(held("PUT", SEND, 1)) },
  {
    name: "the acknowledgement's edit taken, unanswered",
    reading: true,
    arrange: slowly(lost("PUT", SEND, 1, answered)),
  },
  { name: "joining, not carried out yet", joining: true, arrange: held("POST", JOIN) },
  {
    name: "joined, unanswered",
    joining: true,
    arrange: lost("POST", JOIN, 0, (fixture) => (roomId) => fixture.joined(roomId)),
  },
  {
    name: "reading what was said since the join",
    joining: true,
    arrange: held("GET", "/rooms/{roomId}/messages"),
  },
];

Deno.test("killed at each point of a command's way, it has one effect and one answer", async (t) => {
  await killAtEach(t, points, false);
});

Deno.test("killed at each point of a command's way to what it watches, it has one effect and one answer", async (t) => {
  await killAtEach(t, points.filter(({ reading = false, joining = false }) => !reading && !joining), true);
});

async function killAtEach(t: Deno.TestContext, points: readonly Point[], isWatching: boolean): Promise<void> {
  await using fixture = await Fixture.open();
  const start = () => fixture.start(isWatching ? { environment: fixture.watching } : {});
  let roomId = await fixture.invite();
  let operator = start();
  await operator.ready;
  await fixture.joined(roomId);
  const table: string[][] = [];
  let commands = 0;
  const command = async () => {
    const word = commands % 2 === 0 ? "start" : "stop";
    const eventId = await fixture.anna.say(roomId, word);
    commands += 1;
    return eventId;
  };
  const about = (eventId: string) =>
    fixture.anna.messages(roomId).filter((message) =>
      message.about === eventId && message.sender === fixture.operatorId
    );
  const untilAnswered = (eventId: string) =>
    fixture.anna.until(() => about(eventId).some((message) => isAnswer(fixture, message)) || undefined, PATIENCE_MS);
  /** The edit that tells of readiness would be taken for what is sent next. */
  const untilReady = (eventId: string) =>
    fixture.replicas === 0
      ? Promise.resolve()
      : fixture.anna.until(() => about(eventId).some(({ body }) => / is ready/.test(body)) || undefined, PATIENCE_MS);
  const first = await command();
  await untilAnswered(first);
  await untilReady(first);

  for (const { name, joining = false, silent = false, arrange } of points) {
    await t.step(name, async () => {
      if (silent) {
        assert.equal(await operator.stop(), 0);
        operator = start();
      }
      await operator.ready;
      const effects = fixture.effects.length;
      let eventId: string | undefined;
      {
        using faults = new DisposableStack();
        const reached = await arrange(fixture, faults, roomId);
        if (joining) roomId = await fixture.invite();
        else eventId = await command();
        await reached(roomId);
        await operator.kill();
      }
      operator = start();
      await operator.ready;
      if (joining) await fixture.joined(roomId);
      eventId ??= await command();
      await untilAnswered(eventId);
      // Its answer comes after anything that would be said twice.
      await untilAnswered(await fixture.anna.say(roomId, "status"));
      const texts = about(eventId).map((message) => firstAnswer(message) ?? "(only acknowledged)");
      const [count, answers] = [fixture.effects.length - effects, texts.length];
      table.push([name, String(count), String(answers), texts.at(-1) ?? ""]);
      assert.deepEqual({ count, answers }, { count: 1, answers: 1 });
      assert.match(texts.at(-1) ?? "", / is (on|off)\b/);
      await untilReady(eventId);
    });
  }
  assert.equal(await operator.stop(), 0);
  printTable(["killed at", "effects", "answers", "the answer"], table);
}
