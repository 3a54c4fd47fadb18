import assert from "node:assert/strict";
import { firstAnswer, type Message } from "../../sandbox/person/mod.ts";
import { Fixture, PATIENCE_MS } from "./fixture.ts";
import { printTable } from "./table.ts";

/** Steps of a first start that change something at the homeserver. */
const steps: readonly [name: string, method: string, path: string][] = [
  ["logged in", "POST", "/login"],
  ["device keys uploaded", "POST", "/keys/upload"],
  ["identity uploaded", "POST", "/keys/device_signing/upload"],
  ["device signed", "POST", "/keys/signatures/upload"],
];

interface PublishedDevice {
  readonly device_id: string;
  readonly signatures: Readonly<Record<string, Readonly<Record<string, string>>>>;
}

Deno.test("killed at each step of its first start, before the response arrives, the operator starts completely", async (t) => {
  const table: string[][] = [];
  for (const [name, method, path] of steps) {
    await t.step(name, async () => {
      await using fixture = await Fixture.open();
      const { anna, homeserver, operatorId } = fixture;
      {
        using _held = homeserver.fault({ method, path, times: 1, after: true, delayMs: Infinity });
        const asked = homeserver.requests.next((entry) => {
          return entry.method === method && entry.template === path && entry.userId !== anna.userId;
        }, AbortSignal.timeout(PATIENCE_MS));
        await using first = fixture.start();
        await asked;
        // These requests are answered only after the step has been executed.
        for (let i = 0; i < 5; i += 1) await anna.api.request("GET", "/account/whoami");
        await first.kill();
      }
      await using second = fixture.start();
      await second.ready;
      const roomId = await fixture.invite();
      await fixture.joined(roomId);
      const eventId = await anna.say(roomId, "start");
      const isAnswer = (message: Message) =>
        message.about === eventId && message.kind === "notice" && firstAnswer(message) !== undefined;
      await anna.until(() => anna.messages(roomId).some(isAnswer) || undefined, PATIENCE_MS);
      assert.deepEqual(fixture.effects, [1]);

      const query = await anna.api.request("POST", "/keys/query", { device_keys: { [operatorId]: [] } });
      const published = (query["device_keys"] as Record<string, Record<string, PublishedDevice>>)[operatorId] ?? {};
      const devices = Object.values(published);
      const signed = devices.filter(({ device_id, signatures }) => {
        return Object.keys(signatures[operatorId] ?? {}).some((key) => key !== `ed25519:${device_id}`);
      });
      table.push([name, String(devices.length), String(signed.length)]);
      assert.deepEqual([devices.length, signed.length], [1, 1]);
      assert.equal(await second.stop(), 0);
    });
  }
  printTable(["killed once it was", "devices with keys", "of them signed"], table);
});
