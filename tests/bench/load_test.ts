import assert from "node:assert/strict";
import { Load } from "../../bench/load.ts";
import { Homeserver } from "../../sandbox/homeserver/mod.ts";
import { KubernetesSandbox } from "../../sandbox/kubernetes/mod.ts";
import { Person } from "../../sandbox/person/mod.ts";

/** What a person in the operator's place does about one command. */
interface Deed {
  /** Replica counts that the target is set to. */
  readonly scales: readonly number[];
  /** Number of messages in answer. */
  readonly answers: number;
}

const right: Deed = { scales: [1], answers: 1 };
const fine = { given: 1, lost: 0, doubled: 0, unanswered: 0, answeredTwice: 0 };
const cases: readonly (readonly [name: string, deed: Deed, account: typeof fine])[] = [
  ["carried out and answered", right, fine],
  ["not carried out", { ...right, scales: [] }, { ...fine, lost: 1 }],
  ["carried out twice", { ...right, scales: [1, 0] }, { ...fine, doubled: 1 }],
  ["carried out as something else", { ...right, scales: [2] }, { ...fine, doubled: 1 }],
  ["not answered", { ...right, answers: 0 }, { ...fine, unanswered: 1 }],
  ["answered twice", { ...right, answers: 2 }, { ...fine, answeredTwice: 1 }],
];

Deno.test("Load tells what has become of a command", async (t) => {
  await using homeserver = new Homeserver();
  const login = (user: string) => {
    homeserver.register(user, "pw");
    return Person.login({ url: homeserver.url, user, password: "pw" });
  };
  await using anna = await login("anna");
  await using toggle = await login("toggle");
  for (const [name, deed, account] of cases) {
    await t.step(name, async () => {
      await using kubernetes = await KubernetesSandbox.start({ startMs: 1, stopMs: 1, observeMs: 1 });
      kubernetes.create({ namespace: "bench", name: "target-0" });
      const roomId = await anna.createRoom([toggle.userId]);
      await toggle.until(() => toggle.invitations.has(roomId) || undefined);
      await toggle.join(roomId);
      const rooms = [{ id: roomId, speaker: anna, target: "target-0" }];
      using load = new Load({ rooms, kubernetes, operatorId: toggle.userId });
      const command = toggle.next(({ roomId: room, sender }) => room === roomId && sender === anna.userId);
      const given = load.giveInEachRoom(1);
      const { body, eventId } = await command;
      assert.equal(body, "start target-0");
      for (const replicas of deed.scales) await scale(kubernetes, replicas);
      for (let i = 0; i < deed.answers; i++) {
        const seen = anna.next(({ sender, about }) => sender === toggle.userId && about === eventId);
        await toggle.say(roomId, `answer ${i}`, { replyTo: eventId });
        await seen;
      }
      await given;
      assert.deepEqual(load.account(), account);
      const isDone = deed.scales.length === 1 && deed.answers === 1;
      assert.equal(await load.settle(1), isDone || (deed.answers === 2 && deed.scales.length === 1));
      assert.equal(load.given[0]?.patchedAtMs !== undefined, deed.scales.length > 0);
    });
  }
});

async function scale(kubernetes: KubernetesSandbox, replicas: number): Promise<void> {
  const response = await fetch(`${kubernetes.url}/apis/apps/v1/namespaces/bench/deployments/target-0/scale`, {
    method: "PATCH",
    headers: { authorization: `Bearer ${kubernetes.adminToken}`, "content-type": "application/merge-patch+json" },
    body: JSON.stringify({ spec: { replicas } }),
  });
  assert.equal(response.status, 200);
  await response.body?.cancel();
}
