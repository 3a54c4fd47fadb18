import assert from "node:assert/strict";
import { KeyedQueue, operatorPolicy, sleep } from "../../lib/async.ts";
import { RejectedError, TransientError } from "../../lib/errors.ts";
import type { Json } from "../../lib/json.ts";
import { BackPagination } from "../../lib/session/back_pagination.ts";
import { HomeserverClient } from "../../lib/session/homeserver_client.ts";
import type { RefusedEvent } from "../../lib/session/mod.ts";
import { openMemoryStore } from "../../lib/store/mod.ts";

const ROOM = "!r:x";
const SELF = "@toggle:x";

function message(eventId: string, sender = "@ann:x"): Json {
  return { type: "m.room.message", event_id: eventId, sender, content: { body: eventId, msgtype: "m.text" } };
}

/** The gap of a limited timeline. Without its end, it is that of a room which was just joined. */
interface Filled {
  readonly to?: string | undefined;
  /** Answers requests for the members; they are known by default. */
  readonly refreshMembers?: () => Promise<void>;
}

/**
 * What came of filling a gap from `p` to, by default, `s`, by a server that answers requests for pages as given, by their
 * number.
 */
async function fill(
  page: (from: string, asked: number) => Response | Json,
  joined: readonly string[] = [],
  { to, refreshMembers = () => Promise.resolve() }: Filled = { to: "s" },
): Promise<{
  readonly asked: string[];
  /** Number of requests before an event was handled. */
  readonly askedBefore: number;
  readonly events: string[];
  readonly refused: RefusedEvent[];
  readonly isCutOff: boolean;
  readonly active: string[];
  readonly waits: number[];
}> {
  const asked: string[] = [];
  await using server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, (request) => {
    const from = new URL(request.url).searchParams.get("from") ?? "";
    asked.push(from);
    const answer = page(from, asked.length);
    return answer instanceof Response ? answer : Response.json(answer);
  });
  using client = new HomeserverClient(`http://127.0.0.1:${server.addr.port}`);
  await using store = openMemoryStore();
  store.rooms.updateMembers(ROOM, joined.map((user) => [user, true]));
  const gap = store.rooms.addGap({ roomId: ROOM, from: "p", to });
  store.rooms.addEvent(
    { roomId: ROOM, eventId: "$after", sender: "@ann:x", json: message("$after"), receivedAtMs: 0, ageMs: 0 },
    { state: "held", gap },
  );
  const stop = new AbortController();
  const failed = Promise.withResolvers<never>();
  const filled = Promise.withResolvers<void>();
  const queue = new KeyedQueue(stop.signal, failed.reject);
  const refused: RefusedEvent[] = [];
  const active: string[] = [];
  const waits: number[] = [];
  let askedBefore = 0;
  const history = new BackPagination(
    {
      ...{ client, store, self: SELF, allowedUsers: new Set(["@ann:x"]), agents: new Set(["@clawd:x"]), now: () => 0 },
      refreshMembers: (roomId) => {
        asked.push(`members of ${roomId}`);
        return refreshMembers();
      },
    },
    {
      filled: () => {
        askedBefore = asked.length;
        filled.resolve();
      },
      refused: (event) => refused.push(event),
      agentRoomActive: (messages) => active.push(...messages.map(({ eventId }) => eventId)),
    },
    {
      policy: operatorPolicy(2),
      onWait: () => {},
      sleep: (ms, signal) => {
        waits.push(ms);
        return sleep(1, signal);
      },
    },
    queue,
    stop.signal,
  );
  history.fill();
  history.fill();
  await Promise.race([filled.promise, failed.promise]);
  await queue.idle();
  assert.equal(store.rooms.gapCount(ROOM), 0);
  return {
    asked,
    askedBefore,
    refused,
    active,
    waits,
    events: store.journal.unsettled(0).map(({ event }) => event.eventId),
    isCutOff: store.journal.cutOffHistories().length > 0,
  };
}

Deno.test("BackPagination fills a gap in the order of the timeline, without strangers' messages", async () => {
  const { events, refused, asked, isCutOff } = await fill((from) =>
    from === "p"
      ? { chunk: [message("$4"), message("$3", "@eve:x"), message("$2")], end: "older" }
      : { chunk: [message("$1"), { ...message("$0"), content: {} }] }
  );
  assert.deepEqual([events, asked, isCutOff], [["$1", "$2", "$4", "$after"], ["p", "older"], false]);
  assert.deepEqual(refused, [{ roomId: ROOM, eventId: "$3", sender: "@eve:x" }]);
});

Deno.test("BackPagination asks for the members of a room that was joined, before anything in it is handled", async (t) => {
  const members = `members of ${ROOM}`;
  const page = () => ({ chunk: [message("$1")] });
  await t.step("but not where only the timeline was limited", async () => {
    assert.deepEqual((await fill(page)).asked, ["p"]);
  });
  await t.step("once", async () => {
    const { asked, events } = await fill(page, [], {});
    assert.deepEqual([asked, events], [[members, "p"], ["$1", "$after"]]);
  });
  await t.step("again where the homeserver didn't answer", async () => {
    let failures = 2;
    const refreshMembers = () =>
      failures-- > 0 ? Promise.reject(new TransientError("Cannot list the members: 502")) : Promise.resolve();
    const { asked, askedBefore, events, waits } = await fill(page, [], { refreshMembers });
    assert.deepEqual([asked.toSorted(), waits.length], [[members, members, members, "p"], 2]);
    assert.equal(askedBefore, asked.length, "before an event is handled");
    assert.deepEqual(events, ["$1", "$after"]);
  });
  await t.step("and continues without it if that is refused", async () => {
    const refreshMembers = () => Promise.reject(new RejectedError("Cannot list the members: 403", 403, "M_FORBIDDEN"));
    const { asked, events, isCutOff } = await fill(page, [], { refreshMembers });
    assert.deepEqual([asked, events, isCutOff], [[members, "p"], ["$1", "$after"], false]);
  });
});

Deno.test("BackPagination reports the latest message of each user and agent in a room with an agent", async () => {
  const gap = () => ({
    chunk: [
      message("$6", "@eve:x"),
      message("$5", "@clawd:x"),
      message("$4", "@clawd:x"),
      { ...message("$3"), type: "m.key.verification.start" },
      message("$2"),
      message("$1"),
    ],
  });
  const { events, refused, active } = await fill(gap, ["@ann:x", "@clawd:x"]);
  assert.deepEqual(active, ["$5", "$2"]);
  assert.deepEqual(events, ["$1", "$2", "$3", "$after"], "an agent's messages are not taken in");
  assert.deepEqual(refused.map(({ sender }) => sender), ["@eve:x"], "nor refused");
  assert.deepEqual((await fill(gap, ["@ann:x"])).active, []);
});

Deno.test("BackPagination ends where a server makes it go round, and notes that the history is cut off", async () => {
  const { events, asked, isCutOff } = await fill((_, asked) => ({
    chunk: asked === 1 ? [message("$1")] : [],
    end: asked % 2 === 0 ? "even" : "odd",
  }));
  assert.deepEqual([events, asked, isCutOff], [["$1", "$after"], ["p", "odd", "even"], true]);
});

Deno.test("BackPagination ends at a token that is too long to be given back, and notes that the history is cut off", async () => {
  const { events, asked, isCutOff } = await fill(() => ({ chunk: [message("$1")], end: "x".repeat(5_000) }));
  assert.deepEqual([events, asked, isCutOff], [["$1", "$after"], ["p"], true]);
});

Deno.test("BackPagination asks for sixteen pages at once, however many rooms have gaps", async () => {
  let [now, most] = [0, 0];
  // None is answered before sixteen have come, however slow this machine is, and a 17th has had the time to.
  const full = Promise.withResolvers<void>();
  const late = setTimeout(full.resolve, 8_000);
  await using server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, async () => {
    now += 1;
    most = Math.max(most, now);
    if (now === 16) full.resolve();
    await full.promise;
    await new Promise((resolve) => setTimeout(resolve, 5));
    now -= 1;
    return Response.json({ chunk: [] });
  });
  using client = new HomeserverClient(`http://127.0.0.1:${server.addr.port}`);
  await using store = openMemoryStore();
  for (let room = 0; room < 200; room += 1) store.rooms.addGap({ roomId: `!${room}:x`, from: "p", to: "s" });
  const stop = new AbortController();
  const failures: unknown[] = [];
  const queue = new KeyedQueue(stop.signal, (error) => failures.push(error));
  const history = new BackPagination(
    {
      ...{ client, store, self: SELF, allowedUsers: new Set(["@ann:x"]), agents: new Set<string>(), now: () => 0 },
      refreshMembers: () => Promise.reject(new Error("no room was joined")),
    },
    { filled: () => {}, refused: () => {}, agentRoomActive: () => {} },
    { policy: operatorPolicy(2), onWait: () => {} },
    queue,
    stop.signal,
  );
  history.fill();
  await queue.idle();
  clearTimeout(late);
  assert.deepEqual([store.rooms.roomsWithGaps(), failures], [[], []]);
  assert.equal(most, 16);
});

Deno.test("BackPagination asks for a hundred pages at most, also for empty ones, and no faster than ten a second", async () => {
  const { asked, isCutOff, waits } = await fill((_, asked) => ({ chunk: [], end: `t${asked}` }));
  assert.deepEqual([asked.length, isCutOff], [100, true]);
  // By a clock that stands still: ten at once, and a tenth of a second before each of the others.
  assert.deepEqual(waits, Array(90).fill(100));
});

Deno.test("BackPagination gives up on refused and too large responses, and nothing else", async (t) => {
  const refusal = () => Response.json({ errcode: "M_FORBIDDEN", error: "no" }, { status: 403 });
  // Content-Length is not believed: the bytes are counted.
  const large = () => {
    const chunk = new Uint8Array(1_048_576).fill(120);
    let chunks = 0;
    return new Response(
      new ReadableStream({
        pull: (controller) => {
          chunks += 1;
          if (chunks <= 18) controller.enqueue(chunk);
          else controller.close();
        },
      }),
    );
  };
  for (const [what, answer] of [["refused", refusal], ["larger than 16 MiB", large]] as const) {
    await t.step(what, async () => {
      const { events, asked, isCutOff } = await fill((from) =>
        from === "p" ? { chunk: [message("$1")], end: "older" } : answer()
      );
      assert.deepEqual([events, asked, isCutOff], [["$1", "$after"], ["p", "older"], true]);
    });
  }
  await t.step("not answered for a while, for longer than other requests would be tried", async () => {
    const { events, isCutOff, waits } = await fill((_, asked) =>
      asked < 5 ? new Response(null, { status: 502 }) : { chunk: [message("$1")] }
    );
    assert.deepEqual([events, isCutOff, waits.length], [["$1", "$after"], false, 4]);
  });
});
