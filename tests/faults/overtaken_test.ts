import assert from "node:assert/strict";
import { firstAnswer } from "../../sandbox/person/mod.ts";
import { Fixture, PATIENCE_MS } from "./fixture.ts";

Deno.test("killed while acting, and others act meanwhile: after the restart it reports that, and changes nothing", async (t) => {
  await using fixture = await Fixture.open();
  const roomId = await fixture.invite();
  let operator = fixture.start();
  await operator.ready;
  await fixture.joined(roomId);

  const said = (eventId: string) =>
    fixture.anna.messages(roomId).filter(({ about, kind }) => about === eventId && kind === "notice")
      .flatMap((message) => firstAnswer(message) ?? []);
  const answered = async (eventId: string) => {
    await fixture.anna.until(() => said(eventId).length > 0 || undefined, PATIENCE_MS, () => `an answer to ${eventId}`);
    return said(eventId);
  };

  const rows: readonly [
    name: string,
    command: "start" | "stop",
    meanwhile: readonly number[],
    answer: RegExp,
    effects: readonly number[],
  ][] = [
    ["nobody has", "start", [], /is on \(1 replica\)/, [1]],
    ["scaled to another count", "stop", [3], /Somebody|changed|3/, [3]],
    ["scaled to what was wanted", "stop", [0], /is off/, [0]],
    ["scaled there and back", "start", [2, 0], /Somebody else scaled .* and back again/, [2, 0]],
    ["scaled to another count, from none", "start", [5], /5/, [5]],
  ];
  for (const [name, command, meanwhile, answer, effects] of rows) {
    await t.step(name, async () => {
      await operator.ready;
      const before = fixture.effects.length;
      {
        const { promise: acting, resolve } = Promise.withResolvers<void>();
        class Telling extends RegExp {
          override test(path: string): boolean {
            const matches = super.test(path);
            if (matches) resolve();
            return matches;
          }
        }
        // The API server receives the PATCH and does nothing. The journal already records the attempt.
        using _silent = fixture.kubernetes.fault({
          method: "PATCH",
          path: new Telling(/fieldManager=openclaw-toggle/),
          times: 1,
          effect: "silence",
        });
        const eventId = await fixture.anna.say(roomId, command);
        await acting;
        await operator.kill();
        for (const replicas of meanwhile) await fixture.scaleByHand(replicas);
        operator = fixture.start();
        const answers = await answered(eventId);
        assert.equal(answers.length, 1);
        assert.match(answers[0] ?? "", answer);
        assert.deepEqual(fixture.effects.slice(before), effects);
      }
      // There are no late effects either.
      await answered(await fixture.anna.say(roomId, "status"));
      assert.deepEqual(fixture.effects.slice(before), effects);
    });
  }
  assert.equal(await operator.stop(), 0);
});
