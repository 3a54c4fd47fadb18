/**
 * The crash suite's ground on real servers: Synapse, a control plane, and a phone.
 *
 * @module
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import { baseRules, extendedRules, type Person, type SeenEvent, startTestbed, type Watch } from "../../testbed/mod.ts";
import { crash, type CrashFixture, type OperatorRun, type Room, type RoomMessage, summary } from "../faults/crash.ts";
import { firstAnswer } from "../../sandbox/person/mod.ts";
import { editedBy } from "./conversation.ts";
import { OperatorProcess } from "../operator_process.ts";
import type { Sent } from "../faults/wire.ts";
import { Results } from "./results.ts";

const CASE = "killed again and again, it loses nothing and does nothing twice";
const DEPLOYMENT = "clawdbot";
/** Longer than anything takes that happens at all, even on a slow machine. */
const PATIENCE_MS = 120_000;

/**
 * Kills the operator repeatedly on real servers and prints the results.
 *
 * @throws AssertionError if anything was lost, done twice, or can't be decrypted
 */
export async function crashOnRealServers(kills: number): Promise<void> {
  await using testbed = await startTestbed();
  await using results = new Results("kills", testbed.homeserver.kind);
  const namespace = `crash-${crypto.randomUUID().slice(0, 8)}`;
  await testbed.workloads.createTarget({ namespace, name: DEPLOYMENT });
  const target = () => testbed.workloads.until(namespace, DEPLOYMENT, () => true, PATIENCE_MS);
  const { generation } = await target();
  const base = await testbed.serviceAccounts.create(namespace, "openclaw-toggle", baseRules(DEPLOYMENT));
  const extended = await testbed.serviceAccounts.create(namespace, "extended", extendedRules(DEPLOYMENT));
  const anna = await testbed.person("anna");
  const password = crypto.randomUUID();
  const { userId: operatorId, localpart } = await testbed.homeserver.register("toggle", password);
  const environment = {
    MATRIX_HOMESERVER: testbed.homeserver.url,
    MATRIX_USER: localpart,
    MATRIX_PASSWORD: password,
    ALLOWED_USERS: anna.userId,
    DEPLOYMENT_NAME: DEPLOYMENT,
    DEPLOYMENT_NAMESPACE: namespace,
    CRYPTO_STORE_PATH: join(testbed.folder, "store"),
    MAX_COMMAND_AGE: "1h",
    LOG_FORMAT: "text",
    LOG_LEVEL: "info",
    HTTP_ADDRESS: "",
  };
  let last: OperatorProcess | undefined;
  let runs = 0;
  const fixture: CrashFixture = {
    operatorId,
    startOperator: (): OperatorRun => {
      // Every second one may watch its target, so that it needs no read before a change.
      const { kubeconfig } = (runs += 1) % 2 === 0 ? extended : base;
      const process = last = new OperatorProcess({ environment: { ...environment, KUBECONFIG: kubeconfig } });
      return { ready: () => process.ready, kill: () => process.kill(), stop: () => process.stop() };
    },
    invite: async () => {
      const roomId = await anna.createRoom({ invite: [operatorId] });
      return roomOf(anna, roomId, operatorId);
    },
    // The audit log isn't used: if the client is killed during a request, it may record a failure although the change
    // was made.
    effects: async () => (await target()).generation - generation,
  };
  const begin = performance.now();
  const progress = (done: number) => done % 100 === 0 && console.log(`${done} kills, ${minutes(begin)}`);
  try {
    const figures = await crash(fixture, { kills, progress });
    console.log(summary(figures));
    const { lost, doubled, unreadable, turnedBack } = figures;
    assert.deepEqual({ lost, doubled, unreadable, turnedBack }, { lost: 0, doubled: 0, unreadable: 0, turnedBack: 0 });
    // Setting the same count again would not be a change.
    const writes = await testbed.records.scaleWrites(namespace, DEPLOYMENT) ?? [];
    const accepted = writes.filter(({ status }) => status === 200).length;
    assert.ok(accepted <= figures.commands, `${accepted} writes were accepted of ${figures.commands} commands`);
    results.add(CASE, true);
  } catch (error) {
    results.add(CASE, false);
    console.log(`the end of the operator's last log:\n${last?.lines.slice(-40).join("\n")}`);
    throw error;
  } finally {
    await last?.kill();
  }
}

function minutes(begin: number): string {
  return `${((performance.now() - begin) / 60_000).toFixed(1)} min`;
}

function roomOf(anna: Person, roomId: string, operatorId: string): Room {
  const watch = anna.watch(roomId);
  const messages = () => {
    const edits = Map.groupBy(watch.events, editedBy);
    return watch.events.filter((event) => editedBy(event) === undefined)
      .map((event) => saidOf(event, edits.get(event.eventId) ?? []));
  };
  return {
    messages: messages,
    say: (text) => anna.sendText(roomId, text),
    sendChatter: async (edit) => void await anna.sendText(roomId, "never mind", { edit }),
    until: (look, what) => until(watch, look, what),
    joined: () => anna.untilJoined(roomId, [operatorId], PATIENCE_MS),
    caughtUp: async () => {
      const [last] = await latest(anna, roomId, 1);
      const isThere = () => last === undefined || watch.events.some(({ eventId }) => eventId === last.eventId);
      await until(watch, isThere, "the last message");
    },
    sent: async () => await latest(anna, roomId, Infinity),
  };
}

async function until(watch: Watch, look: () => boolean, what: string): Promise<void> {
  if (!look()) await watch.first(what, () => look(), PATIENCE_MS);
}

function saidOf({ eventId, sender, content, outerContent, how }: SeenEvent, edits: readonly SeenEvent[]): RoomMessage {
  const relation = outerContent["m.relates_to"] ?? content["m.relates_to"];
  const about = relation?.["m.in_reply_to"]?.event_id;
  const [body = "", ...earlier] = [content, ...edits.map(({ content }) => content["m.new_content"] ?? {})]
    .map(({ body }) => String(body ?? "")).toReversed();
  const [text, quiet] = [firstAnswer({ body, earlier: earlier.toReversed() }) ?? "", content["msgtype"] === "m.notice"];
  return { eventId, sender, about, text, quiet, readable: how !== "undecryptable" };
}

/** Returns up to `most` of the latest encrypted events of a room, oldest first. */
async function latest(anna: Person, roomId: string, most: number): Promise<(Sent & { eventId: string })[]> {
  const filter = encodeURIComponent(JSON.stringify({ types: ["m.room.encrypted"] }));
  const found: (Sent & { eventId: string })[] = [];
  for (let from = ""; found.length < most;) {
    // Some homeservers filter a page after fetching it, so a page may be empty.
    const path = `/rooms/${encodeURIComponent(roomId)}/messages?dir=b&limit=${Math.min(Math.max(most, 20), 500)}`;
    const { chunk, end } = await anna.request("GET", `${path}&filter=${filter}${from}`);
    for (const { event_id: eventId, sender, content } of chunk) found.push({ eventId, sender, content });
    const next = end === undefined ? "" : `&from=${encodeURIComponent(end)}`;
    if (next === "" || next === from) break;
    from = next;
  }
  return found.slice(0, most).reverse();
}
