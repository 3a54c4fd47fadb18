/** How a user's trusted devices change: only through the user's own phones. */

import assert from "node:assert/strict";
import { bodyOf } from "../conversation.ts";
import { type Client, Room } from "./people.ts";
import { type Case, commandOf, type Story, tries } from "./story.ts";
import type { World } from "./world.ts";

/** A user without cross-signing adds a second phone and sets up cross-signing as the operator's answer says. */
async function setsUpCrossSigning(world: World, story: Story): Promise<void> {
  const { heidi, operatorId } = world;
  const room = await Room.create(heidi, operatorId, []);
  const by = (who: Client, word: string) => commandOf(world, who, room, word);
  await tries(world, story, "Heidi, who has no identity, sends `start`", by(heidi, "start"), "start: done");
  const tablet = await world.login("heidi");
  await tablet.untilJoined(room.roomId, [operatorId]);
  await tries(world, story, "`stop` from her new tablet", by(tablet, "stop"), "new-device");
  const told = bodyOf(await room.told(/set up cross-signing/));
  story.add("(the same)", "she is told what to do", told);
  assert.ok(told.includes(heidi.deviceId) && told.includes(tablet.deviceId), told);

  await world.untilAsked(() => heidi.makeIdentity().then(() => {}));
  await tries(
    world,
    story,
    "she sets cross-signing up on her phone; `stop` from the tablet, not verified yet",
    by(tablet, "stop"),
    "unsigned-device",
  );
  await world.untilAsked(() => heidi.signDevice(tablet.deviceId));
  await tries(world, story, "she verifies the tablet; `stop` from it", by(tablet, "stop"), "stop: done");
  await tries(world, story, "`start` from her phone", by(heidi, "start"), "start: done");
  await world.untilAsked(() => tablet.makeIdentity().then(() => {}));
  await tries(world, story, "the tablet makes another identity; `stop` from it", by(tablet, "stop"), "other-identity");
  await world.switchOff();
}

export const growingCases: readonly Case[] = [
  {
    name: "an identity is accepted when the trusted phone has made it, and nothing falls back",
    run: setsUpCrossSigning,
  },
];
