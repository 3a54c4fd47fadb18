import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import type { Answer } from "../../lib/session/mod.ts";
import type { Journal as Port } from "../../lib/operator/mod.ts";
import { type Store, transactionId } from "../../lib/store/mod.ts";
import { event, StoreFolder } from "./folder.ts";

const WEEK_MS = 7 * 24 * 3_600_000;
const intent = { command: "start", parts: [{ target: "clawdbot" }] };

function answer(eventId: string, sequence = 0): Answer {
  return { kind: "answer", sequence, roomId: "!r", eventId, form: "notice", text: { plain: "on" }, reply: true };
}

/** Takes an event in and gives its place. */
function arrive(store: Store, eventId: string, sender = "@ann:x"): number {
  assert.equal(store.rooms.addEvent({ ...event(eventId), sender }, { state: "new" }), true);
  return store.journal.unsettled(0).find(({ event }) => event.eventId === eventId)?.event.seq ?? 0;
}

function standing({ journal }: Store): [string, string][] {
  return journal.unsettled(0).map(({ event, progress }) => [event.eventId, progress.state]);
}

Deno.test("EventJournal is what the operator asks for", async () => {
  await using folder = new StoreFolder();
  const port: Port = (await folder.reopen()).journal;
  assert.deepEqual(port.unsettled(0), []);
});

Deno.test("EventJournal persists each event's state across a restart", async () => {
  await using folder = new StoreFolder();
  const store = await folder.reopen();
  const places = ["$new", "$undecryptable", "$acting", "$settled"].map((id) => arrive(store, id));
  const [, undecryptable = 0, acting = 0, settled = 0] = places;
  store.journal.markUndecryptable(undecryptable, "session");
  store.journal.saveCommand(acting, intent);
  store.journal.settle(settled, "done", [answer("$settled", 0), answer("$settled", 1)]);

  const later = await folder.reopen();
  assert.deepEqual(standing(later), [["$new", "new"], ["$undecryptable", "undecryptable"], ["$acting", "begun"]]);
  const [first, , third] = later.journal.unsettled(0);
  assert.deepEqual(first?.event, { seq: places[0], ...event("$new") });
  assert.deepEqual(third?.progress, { state: "begun", command: intent });
  assert.deepEqual(later.journal.unsettled(places[0] ?? 0).length, 2);
  assert.deepEqual(later.journal.unsentAnswers("!r", 10).map(({ answer }) => answer), [
    answer("$settled", 0),
    answer("$settled", 1),
  ]);
  assert.equal(later.rooms.addEvent(event("$settled"), { state: "new" }), false, "settled events stay known");
});

Deno.test("EventJournal.awaitingKey() finds what waits for one session of one room", async () => {
  await using folder = new StoreFolder();
  const store = await folder.reopen();
  for (const [eventId, session] of [["$1", "a"], ["$2", "b"], ["$3", "a"], ["$4", undefined]] as const) {
    store.journal.markUndecryptable(arrive(store, eventId), session);
  }
  store.journal.settle(arrive(store, "$5"), "ignored", []);
  const { journal } = await folder.reopen();
  const waiting = journal.awaitingKey("!r", "a");
  assert.deepEqual(waiting.map(({ event }) => event.eventId), ["$1", "$3"]);
  assert.deepEqual(journal.awaitingKey("!other", "a"), []);
  journal.settle(waiting[0]?.event.seq ?? 0, "done", []);
  assert.deepEqual(journal.awaitingKey("!r", "a").map(({ event }) => event.eventId), ["$3"]);
});

Deno.test("EventJournal refuses to change an event that is settled, held or unknown", async () => {
  await using folder = new StoreFolder();
  const { rooms, journal } = await folder.reopen();
  rooms.addEvent(event("$settled"), { state: "settled" });
  rooms.addEvent(event("$held"), { state: "held", gap: rooms.addGap({ roomId: "!r", from: "p", to: "s" }) });
  for (const seq of [1, 2, 99]) {
    assert.throws(() => journal.settle(seq, "done", [answer("$x")]), /Cannot change the event/);
    assert.throws(() => journal.saveCommand(seq, intent), /Cannot change the event/);
    assert.throws(() => journal.markUndecryptable(seq, "s"), /Cannot change the event/);
    assert.throws(() => journal.claim(seq, { sessionId: "s", messageIndex: 0 }), /Cannot change the event/);
  }
  assert.deepEqual(journal.unsentAnswers("!r", 10), [], "answers are queued together with settling, or not at all");
});

Deno.test("EventJournal.claim() lets one event have a ciphertext", async () => {
  await using folder = new StoreFolder();
  const store = await folder.reopen();
  const [first, second] = [arrive(store, "$1"), arrive(store, "$2")];
  const key = { sessionId: "s", messageIndex: 0 };
  assert.equal(store.journal.claim(first, key), true);
  assert.equal(store.journal.claim(first, key), true);
  assert.equal(store.journal.claim(first, { ...key, messageIndex: 1 }), false, "an event has one ciphertext");
  const { journal } = await folder.reopen();
  assert.equal(journal.claim(second, key), false);
  assert.equal(journal.claim(first, key), true);
  journal.settle(first, "done", []);
  assert.equal(journal.claim(second, key), false, "settling does not free it");
  assert.equal(journal.claim(second, { ...key, sessionId: "t" }), true);
});

Deno.test("EventJournal.claim() consumes a ciphertext for its sender only", async () => {
  await using folder = new StoreFolder();
  let store = await folder.reopen();
  const key = { sessionId: "s", messageIndex: 3 };
  const [forged, anns, again] = [arrive(store, "$1", "@bob:x"), arrive(store, "$2"), arrive(store, "$3")];
  assert.equal(store.journal.claim(forged, key), true);
  assert.equal(store.journal.claim(anns, key), true, "Ann's, though it was sent under Bob's name before");
  assert.equal(store.journal.claim(again, key), false);
  for (const seq of [forged, anns]) store.journal.settle(seq, "done", []);
  folder.nowMs += WEEK_MS + 1;
  store.journal.prune();

  const { journal } = await folder.reopen();
  const lower = { ...key, messageIndex: 2 };
  assert.equal(journal.claim(again, lower), false, "the floor is Ann's");
  store = await folder.reopen();
  const carol = arrive(store, "$4", "@carol:x");
  assert.equal(store.journal.claim(carol, lower), true, "and not Carol's");
});

Deno.test("EventJournal reports a cut-off history once per room", async () => {
  await using folder = new StoreFolder();
  const { rooms } = await folder.reopen();
  rooms.fillGap(rooms.addGap({ roomId: "!r", from: "p", to: "s" }), [event("$1")], true);
  rooms.fillGap(rooms.addGap({ roomId: "!whole", from: "p", to: "s" }), []);
  rooms.recordCutOffHistory("!r");
  rooms.recordCutOffHistory("!other");
  const { journal, rooms: later } = await folder.reopen();
  const [one, other] = journal.cutOffHistories();
  assert.deepEqual([one?.roomId, other?.roomId], ["!r", "!other"]);
  later.recordCutOffHistory("!r");
  journal.markCutOffReported("!r", one?.id ?? 0);
  assert.equal(journal.cutOffHistories().filter(({ roomId }) => roomId === "!r").length, 1, "what came since is news");
  later.forget("!r");
  later.forget("!other");
  assert.deepEqual(journal.cutOffHistories(), []);
});

Deno.test("EventJournal.prune() forgets old events, but no ciphertext that was used", async () => {
  await using folder = new StoreFolder();
  const store = await folder.reopen();
  for (const [eventId, messageIndex] of [["$1", 4], ["$2", 2]] as const) {
    const seq = arrive(store, eventId);
    assert.equal(store.journal.claim(seq, { sessionId: "s", messageIndex }), true);
    store.journal.settle(seq, "done", [answer(eventId)]);
  }
  store.journal.markSent(transactionId("$1", "answer", 0), "$said");
  const old = arrive(store, "$old");
  folder.nowMs += WEEK_MS;
  store.journal.prune();
  assert.equal(store.rooms.hasEvent("!r", "$1"), true, "not older than a week");
  folder.nowMs += 1;

  const later = await folder.reopen();
  later.journal.prune();
  assert.deepEqual(["$1", "$2"].map((id) => later.rooms.hasEvent("!r", id)), [false, false]);
  assert.deepEqual(standing(later), [["$old", "new"]]);
  assert.equal(later.journal.sentAs({ eventId: "$1", kind: "answer", sequence: 0 }), undefined);
  assert.equal(later.journal.unsentAnswers("!r", 10).length, 1, "what is to be sent stays");

  const { journal } = await folder.reopen();
  for (const [messageIndex, accepted] of [[4, false], [3, false], [0, false], [5, true]] as const) {
    assert.equal(journal.claim(old, { sessionId: "s", messageIndex }), accepted, `index ${messageIndex}`);
  }
});

Deno.test("EventJournal.prune() never lowers a floor", async () => {
  await using folder = new StoreFolder();
  const store = await folder.reopen();
  const places = [9, 7].map((messageIndex) => {
    const seq = arrive(store, `$${messageIndex}`);
    assert.equal(store.journal.claim(seq, { sessionId: "s", messageIndex }), true);
    return seq;
  });
  for (const seq of places) {
    store.journal.settle(seq, "done", []);
    folder.nowMs += WEEK_MS + 1;
    store.journal.prune();
  }
  assert.equal(store.journal.claim(arrive(store, "$8"), { sessionId: "s", messageIndex: 8 }), false);
});

Deno.test("EventJournal.prune() keeps ten thousand settled events, and places go on", async () => {
  await using folder = new StoreFolder();
  const store = await folder.reopen();
  store.transaction(() => {
    for (let i = 1; i <= 10_001; i++) store.rooms.addEvent(event(`$${i}`), { state: "settled" });
  });
  store.journal.prune();
  assert.deepEqual(["$1", "$2"].map((id) => store.rooms.hasEvent("!r", id)), [false, true]);
  folder.nowMs += WEEK_MS + 1;
  store.journal.prune();
  assert.equal(store.rooms.hasEvent("!r", "$10001"), false);
  assert.equal(arrive(await folder.reopen(), "$next"), 10_002);
});

Deno.test("EventJournal.prune() settles what could not be decrypted for a week, and all but ten thousand of such", async () => {
  await using folder = new StoreFolder();
  folder.nowMs = event("$").receivedAtMs;
  const store = await folder.reopen();
  store.transaction(() => {
    for (let i = 1; i <= 10_001; i++) {
      store.rooms.addEvent(event(`$${i}`), { state: "new" });
      store.journal.markUndecryptable(i, "late");
    }
  });
  store.journal.prune();
  assert.equal(store.journal.awaitingKey("!r", "late").length, 10_000);
  assert.equal(standing(store)[0]?.[0], "$2");
  assert.equal(store.journal.newEvents(0).length, 0, "nobody is to look at them again");
  arrive(store, "$new");
  folder.nowMs += WEEK_MS;
  store.journal.prune();
  assert.equal(store.journal.awaitingKey("!r", "late").length, 10_000, "not older than a week");
  folder.nowMs += 1;
  store.journal.prune();
  assert.deepEqual(standing(store), [["$new", "new"]]);
  assert.deepEqual(store.journal.newEvents(0).map(({ event }) => event.eventId), ["$new"]);
  assert.equal(store.rooms.hasEvent("!r", "$10001"), true, "a copy is not taken in");
});

Deno.test("EventJournal sends answers about a user or a room only once, even after a long time", async () => {
  await using folder = new StoreFolder();
  const store = await folder.reopen();
  const about = ["@ann:x another key", "!r", "$1", "clawdbot 7 !r"].map((eventId) => answer(eventId));
  for (const each of about) {
    store.journal.queueAnswer(each);
    store.journal.markSent(transactionId(each.eventId, each.kind, each.sequence), "$said");
  }
  folder.nowMs += WEEK_MS + 1;
  store.journal.prune();
  for (const each of about) store.journal.queueAnswer(each);
  assert.deepEqual(store.journal.unsentAnswers("!r", 10).map(({ answer: { eventId } }) => eventId), [
    "$1",
    "clawdbot 7 !r",
  ]);
});

Deno.test("EventJournal.unsent() returns unsent answers of a room, up to the limit", async () => {
  await using folder = new StoreFolder();
  const store = await folder.reopen();
  store.transaction(() => {
    for (let i = 0; i < 1_000; i++) {
      store.journal.queueAnswer({ ...answer(`$${i}`), roomId: i % 2 === 0 ? "!even" : "!odd" });
    }
  });
  // Only what is asked for is opened: what was altered further back would be a StoreError.
  await folder.close();
  {
    using database = new DatabaseSync(folder.file("state.sqlite3"));
    database.exec("UPDATE answers SET content = x'00' WHERE event_id NOT IN ('$0', '$1', '$2')");
  }
  const { journal } = await folder.reopen();
  assert.deepEqual(journal.roomsWithUnsentAnswers(), ["!even", "!odd"]);
  assert.deepEqual(journal.unsentAnswers("!even", 2).map(({ answer }) => answer.eventId), ["$0", "$2"]);
  assert.deepEqual(journal.unsentAnswers("!odd", 1).map(({ answer }) => answer.eventId), ["$1"]);
  assert.deepEqual(journal.unsentAnswers("!none", 1), []);
  assert.throws(() => journal.unsentAnswers("!odd", 2), { name: "StoreError" });
});

Deno.test("EventJournal says an answer once", async () => {
  await using folder = new StoreFolder();
  const store = await folder.reopen();
  const [sent, dropped, unsent] = [answer("$1", 0), answer("$1", 1), answer("$1", 2)];
  folder.nowMs = 5_000;
  for (const one of [sent, dropped, unsent]) store.journal.queueAnswer(one);
  store.journal.queueAnswer({ ...unsent, text: { plain: "other words" } });
  store.journal.markSent(transactionId("$1", "answer", 0), "$said");
  store.journal.dropAnswer(transactionId("$1", "answer", 1));

  const { journal } = await folder.reopen();
  for (const one of [sent, dropped, unsent]) journal.queueAnswer(one);
  const id = transactionId("$1", "answer", 2);
  assert.deepEqual(journal.unsentAnswers("!r", 10), [{ transactionId: id, answer: unsent, writtenAtMs: 5_000 }]);
  assert.equal(journal.sentAs({ eventId: "$1", kind: "answer", sequence: 0 }), "$said");
  assert.equal(journal.sentAs({ eventId: "$1", kind: "answer", sequence: 1 }), undefined);
});

/** The journal as a process would find it that starts now. */
function onDisk(folder: StoreFolder): unknown {
  const tables = ["events", "answers", "cut_histories"];
  return folder.onDisk("state.sqlite3", (database) => tables.map((t) => database.prepare(`SELECT * FROM ${t}`).all()));
}

Deno.test("what EventJournal records is durable on return, but what the next run finds out by itself", async (t) => {
  const unsent = transactionId("$answered", "answer", 0);
  const rows: [name: string, act: (store: Store, seq: number) => unknown, isDurable: boolean][] = [
    ["claim", ({ journal }, seq) => journal.claim(seq, { sessionId: "s", messageIndex: 1 }), false],
    ["markUndecryptable", ({ journal }, seq) => journal.markUndecryptable(seq, "s"), true],
    ["saveCommand", ({ journal }, seq) => journal.saveCommand(seq, intent), true],
    ["settle", ({ journal }, seq) => journal.settle(seq, "done", []), true],
    ["queueAnswer", ({ journal }) => journal.queueAnswer(answer("$new")), true],
    ["markSent, the room's only one", ({ journal }) => journal.markSent(unsent, "$sent"), false],
    ["markSent, another waits in the room", ({ journal }) => {
      journal.queueAnswer(answer("$answered", 1));
      journal.markSent(unsent, "$sent");
    }, true],
    ["claim, then settle", ({ journal }, seq) => {
      journal.claim(seq, { sessionId: "s", messageIndex: 1 });
      journal.settle(seq, "done", []);
    }, true],
    ["dropAnswer", ({ journal }) => journal.dropAnswer(unsent), true],
    ["settleAll", ({ journal }) => journal.settleAll("store-restored"), true],
    ["markCutOffReported", ({ journal }) => journal.markCutOffReported("!r", 1), true],
  ];
  for (const [name, act, isDurable] of rows) {
    await t.step(name, async () => {
      for (const isWithin of [false, true]) {
        await using folder = new StoreFolder();
        const store = await folder.reopen();
        const seq = arrive(store, "$new");
        store.journal.queueAnswer(answer("$answered"));
        store.journal.queueAnswer({ ...answer("$answered", 2), roomId: "!elsewhere" });
        store.rooms.recordCutOffHistory("!r");
        if (isWithin) store.journal.transaction(() => act(store, seq));
        else act(store, seq);
        const left = onDisk(folder);
        await folder.close();
        (isDurable ? assert.deepEqual : assert.notDeepEqual)(left, onDisk(folder));
      }
    });
  }
});

Deno.test("EventJournal refuses content that was moved from another row", async () => {
  await using folder = new StoreFolder();
  const store = await folder.reopen();
  for (const eventId of ["$1", "$2"]) arrive(store, eventId);
  await folder.close();
  {
    using database = new DatabaseSync(folder.file("state.sqlite3"));
    database.exec("UPDATE events SET content = (SELECT content FROM events WHERE event_id = '$2')");
  }
  const { journal } = await folder.reopen();
  assert.throws(() => journal.unsettled(0), {
    name: "StoreError",
    message: /Cannot read event !r \$1 .*it was altered/,
  });
});

Deno.test("transactionId() differs by event, kind and sequence, and by nothing else", () => {
  const ids: [string, string, number][] = [["$1", "answer", 0], ["$2", "answer", 0], ["$1", "edit", 0], [
    "$1",
    "answer",
    1,
  ]];
  assert.equal(new Set(ids.map((id) => transactionId(...id))).size, ids.length);
  assert.match(transactionId("$1", "answer", 0), /^t[\w-]{43}$/);
  // Fixed for ever: a crash before an update, and the answer after it, must agree.
  assert.equal(transactionId("$1", "answer", 0), "ty5mOd0LBR8C-2brrQ-MKl-wO4PDC_CHn0rCsB0ObmLA");
});

Deno.test("a kill loses at most what would be done again, and never what came before something that is kept", async (t) => {
  const sync = (store: Store, isDurable = false) =>
    store.rooms.advance("s2", isDurable, () => void store.rooms.addEvent(event("$2"), { state: "new" }));
  const place = (store: Store) => store.journal.unsettled(0).at(-1)?.event.seq ?? 0;
  const claim = (store: Store) => store.journal.claim(place(store), { sessionId: "session", messageIndex: 1 });
  const left = ({ rooms, journal }: Store) => ({
    token: rooms.syncToken(),
    events: standing({ journal } as Store).map(([eventId, state]) => `${eventId} ${state}`),
    unsent: journal.unsentAnswers<Answer>("!r", 10).map(({ answer }) => answer.eventId),
  });
  const [before, none] = [{ token: "s1", events: ["$1 new"] }, { unsent: [] }];
  const arrived = { token: "s2", events: ["$1 new", "$2 new"], ...none };
  const id = (eventId: string) => transactionId(eventId, "answer", 0);
  const steps: [name: string, act: (store: Store) => unknown, left: object][] = [
    ["a sync response", sync, { ...before, ...none }],
    ["one that the crypto has stored something of", (store) => sync(store, true), arrived],
    ["and a claim", (store) => (sync(store), claim(store)), { ...before, ...none }],
    ["and the command", (store) => {
      sync(store);
      claim(store);
      store.journal.saveCommand(place(store), intent);
    }, { ...arrived, events: ["$1 new", "$2 begun"] }],
    ["a claim and an answer in one transaction", (store) => {
      sync(store);
      store.journal.transaction(() => {
        claim(store);
        store.journal.queueAnswer(answer("$2"));
      });
    }, { ...arrived, unsent: ["$2"] }],
    ["an answer that was sent, the last of its room", (store) => {
      store.journal.settle(place(store), "done", [answer("$1")]);
      store.journal.markSent(id("$1"), "$sent");
      assert.equal(store.journal.unsentAnswers("!r", 1).length, 0);
    }, { token: "s1", events: [], unsent: ["$1"] }],
    ["and another one was queued", (store) => {
      store.journal.settle(place(store), "done", [answer("$1")]);
      store.journal.markSent(id("$1"), "$sent");
      store.journal.queueAnswer(answer("$0"));
    }, { token: "s1", events: [], unsent: ["$0"] }],
    ["an answer that was sent while another waits in the room", (store) => {
      store.journal.settle(place(store), "done", [answer("$1"), answer("$1", 1)]);
      store.journal.markSent(id("$1"), "$sent");
    }, { token: "s1", events: [], unsent: ["$1"] }],
    ["an event without a key", (store) => {
      sync(store);
      store.journal.transaction(() => store.journal.markUndecryptable(place(store), "session"));
    }, { ...arrived, events: ["$1 new", "$2 undecryptable"] }],
  ];
  for (const [name, act, expected] of steps) {
    await t.step(name, async () => {
      await using folder = new StoreFolder();
      const store = await folder.reopen();
      store.transaction(() => arrive(store, "$1"));
      store.rooms.setSyncToken("s1");
      act(store);
      await using killed = await folder.killed();
      assert.deepEqual(left(killed.store), expected);
    });
  }
});
