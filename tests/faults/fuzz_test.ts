import assert from "node:assert/strict";
import fc from "fast-check";
import { parse } from "../../lib/commands/mod.ts";
import { TransientError } from "../../lib/errors.ts";
import { scaleOf } from "../../lib/scaler/workloads.ts";
import { object } from "../../lib/json.ts";
import { CryptoMachine } from "../../lib/session/crypto_machine.ts";
import { HomeserverClient } from "../../lib/session/homeserver_client.ts";
import { messageOf, SyncApplier, syncFilter } from "../../lib/session/sync_response.ts";
import { openStore } from "../../lib/store/mod.ts";
import { Api, type JsonObject, type Person } from "../../sandbox/person/mod.ts";
import { World } from "../session/world.ts";
import { spoilt } from "./mutation.ts";

const SELF = "@toggle:localhost";
/** Number of runs. `--runs=N` changes it. */
const RUNS = Number(/^--runs=(\d+)$/.exec(Deno.args.join(" "))?.[1] ?? 300);

/** Sync responses from joining to leaving: an invitation, a join, messages, a member who leaves. */
async function syncAnswers(world: World, alice: Person): Promise<JsonObject[]> {
  const api = new Api(world.homeserver.url, new AbortController().signal);
  const identifier = { type: "m.id.user", user: "toggle" };
  const login = { type: "m.login.password", identifier, password: "secret" };
  api.token = String((await api.request("POST", "/login", login))["access_token"]);
  const answers: JsonObject[] = [];
  const typingRooms: string[] = [];
  const sync = async () => {
    const since = answers.length === 0 ? "" : `&since=${answers.at(-1)?.["next_batch"]}`;
    const filter = encodeURIComponent(syncFilter(SELF, typingRooms));
    answers.push(await api.request("GET", `/sync?timeout=0&filter=${filter}${since}`));
  };
  await sync();
  const roomId = await alice.createRoom([SELF]);
  typingRooms.push(roomId);
  await sync();
  await api.request("POST", `/join/${encodeURIComponent(roomId)}`, {});
  await sync();
  await alice.say(roomId, "start");
  await alice.say(roomId, "in clear", { clear: true });
  await alice.type(roomId, true);
  await sync();
  await alice.leave(roomId);
  await sync();
  await api.request("POST", `/rooms/${encodeURIComponent(roomId)}/leave`, {});
  await sync();
  return answers;
}

Deno.test("a sync answer, however spoilt, is applied or refused, and the store stays whole", async () => {
  await using world = new World();
  const answers = await syncAnswers(world, await world.person("alice"));
  const folder = await Deno.makeTempDir({ prefix: "fuzz-" });
  await using store = await openStore({ folder, holder: { host: "test", pid: 1 } });
  await store.openCrypto();
  using client = new HomeserverClient("http://127.0.0.1:9");
  using machine = await CryptoMachine.open({
    client,
    store,
    self: SELF,
    deviceId: "FUZZ",
    allowedUsers: new Set(["@alice:localhost"]),
  });
  const applier = new SyncApplier(
    store,
    SELF,
    { allowedUsers: new Set(["@alice:localhost"]), agents: new Set(["@clawd:localhost"]) },
    Date.now,
  );
  const encrypted = new Set<string>();
  let handled = 0;
  for (const answer of answers.slice(0, 3)) applier.apply(answer, true);
  // IDs that SQLite or UTF-8 would return changed.
  const named = ["$a\0b", "$\ud800", "__proto__", ""].map((id): [JsonObject] => {
    return [
      JSON.parse(JSON.stringify(answers[3]).replaceAll(/"event_id":"[^"]*"/g, `"event_id":${JSON.stringify(id)}`)),
    ];
  });

  await fc.assert(
    fc.asyncProperty(spoilt(answers), async (answer) => {
      for (const { id } of store.rooms.gaps()) store.rooms.fillGap(id, []);
      try {
        const isForCrypto = await machine.receive(answer, "token", new AbortController().signal);
        applier.apply(answer, isForCrypto);
      } catch (error) {
        // The response was refused as a whole: nothing was stored, and the next sync requests it again.
        if (!(error instanceof TransientError)) throw error;
      }
      for (const { event } of store.journal.unsettled(0)) {
        assert.ok(event.sender !== SELF);
        store.journal.settle(event.seq, "seen", []);
        handled += 1;
      }
      const rooms = new Map(store.rooms.all().map((room) => [room.roomId, room]));
      for (const roomId of encrypted) {
        assert.ok(!rooms.has(roomId) || rooms.get(roomId)?.encrypted, "encryption is never forgotten");
      }
      for (const [roomId, room] of rooms) if (room.encrypted) encrypted.add(roomId);
    }),
    { numRuns: RUNS, examples: named },
  );
  assert.ok(encrypted.size > 0 && handled > 0, "nothing got through");
  await Deno.remove(folder, { recursive: true });
});

Deno.test("an event, however spoilt, is read as something, or not now", async () => {
  await using world = new World();
  const alice = await world.person("alice");
  await using running = await world.open();
  running.sync();
  const roomId = await alice.createRoom([SELF]);
  await running.joined(roomId);
  await alice.say(roomId, "start");
  await alice.say(roomId, "in clear", { clear: true });
  const request = {
    msgtype: "m.key.verification.request",
    body: "",
    from_device: "D",
    methods: ["m.sas.v1"],
    to: SELF,
  };
  await alice.send(roomId, "m.room.message", request, { clear: true });
  const relation = { rel_type: "m.reference", event_id: "$1" };
  const begin = { from_device: "D", method: "m.sas.v1", "m.relates_to": relation, hashes: ["sha256"] };
  await alice.send(roomId, "m.key.verification.start", begin);
  await alice.send(roomId, "m.key.verification.cancel", { code: "m.user", "m.relates_to": relation }, { clear: true });
  await running.until(() => running.events().length === 5 || undefined);
  const signal = new AbortController().signal;

  const originals = running.events().map(({ json }) => ({ roomId, json }));
  await fc.assert(
    fc.asyncProperty(spoilt(originals), async ({ roomId, json }) => {
      // Only messages that pass this check, from a known user, reach the operator.
      const made = messageOf(String(roomId), object(json), SELF, 0);
      if (made === undefined || made.sender !== alice.userId) return;
      const event = { ...made, seq: 1 };
      try {
        const payload = await running.session.read(event, signal);
        assert.ok(["clear", "decrypted", "undecryptable"].includes(payload.kind));
      } catch (error) {
        if (!(error instanceof TransientError)) throw error;
      }
    }),
    { numRuns: RUNS },
  );
});

Deno.test("parse() takes any text, and finds a command only where there is one", () => {
  const names = [SELF, "toggle", "Claw (on duty)", "."];
  const words = ["start", "on", "stop", "off", "status", "help", "extend"];
  const spaces = fc.constantFrom("", " ", "\n", "\t", "\u00a0", "\u2003");
  const word = fc.oneof(fc.constantFrom(...words, ...names, "all", "2h", ":", ",", "@"), fc.string());
  const text = fc.array(fc.tuple(spaces, word), { maxLength: 5 }).map((parts) => parts.flat().join(""));
  fc.assert(
    fc.property(fc.oneof(text, fc.string({ unit: "binary" })), (text) => {
      const parsed = parse(text, names, ["clawdbot", "ollama"]);
      if (parsed.kind === "unknown") return;
      const lower = parsed.text.toLowerCase();
      assert.ok(words.some((word) => lower.startsWith(word)), JSON.stringify(text));
      assert.ok(text.includes(parsed.text));
    }),
    { numRuns: 20 * RUNS },
  );
});

Deno.test("scaleOf() accepts any object, and never returns impossible counts", () => {
  const deployment = {
    metadata: { name: "clawdbot", resourceVersion: "17", generation: 3 },
    spec: { replicas: 1, selector: {} },
    status: { observedGeneration: 3, replicas: 1, readyReplicas: 1, availableReplicas: 1 },
  };
  fc.assert(
    fc.property(fc.oneof(spoilt([deployment]), fc.object()), (object) => {
      const scale = scaleOf(object as Record<string, unknown>);
      if (scale === undefined) return;
      const { desired, current, ready, available, settled, resourceVersion } = scale;
      for (const count of [desired, current, ready, available]) assert.ok(Number.isSafeInteger(count) && count >= 0);
      assert.equal(typeof settled, "boolean");
      assert.ok(resourceVersion.length > 0);
    }),
    { numRuns: 10 * RUNS },
  );
});
