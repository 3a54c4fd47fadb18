/** The login ends while the operator runs. */

import assert from "node:assert/strict";
import { httpJson } from "../../../testbed/mod.ts";
import { deleteOwnDevice } from "../trust/administrator.ts";
import { eventually, type Ground, patienceMs, Subject } from "./subject.ts";
import type { Measured, Row } from "./table.ts";

/** Returns the IDs of the operator's devices that have keys. */
async function devices({ alice }: Ground, { operatorId }: Subject): Promise<string[]> {
  const { device_keys } = await alice.request("POST", "/keys/query", { device_keys: { [operatorId]: [] } });
  return Object.keys(device_keys[operatorId] ?? {});
}

/** Causes an event. A homeserver doesn't end a poll when it ends the login, but only with the next event. */
async function stir({ alice }: Ground, { talk }: Subject): Promise<void> {
  const path = `/rooms/${encodeURIComponent(talk.roomId)}/state/m.room.member/${encodeURIComponent(alice.userId)}`;
  await alice.request("PUT", path, { membership: "join", displayname: `Alice ${crypto.randomUUID()}` });
}

/** The device is deleted. The operator continues as a new one and obeys. */
async function loseDevice(
  ground: Ground,
  lose: (subject: Subject, deviceId: string) => Promise<unknown>,
): Promise<Measured> {
  await using subject = await Subject.ready(ground);
  const [old = ""] = await devices(ground, subject);
  const begin = performance.now();
  await lose(subject, old);
  await stir(ground, subject);
  let now: string[] = [];
  await eventually("a new device", async () => {
    now = await devices(ground, subject);
    return now.length === 1 && now[0] !== old;
  });
  await ground.alice.untilKnown(subject.operatorId, now, patienceMs);
  assert.match(await subject.ask("start", 1), /is on/);
  const ms = performance.now() - begin;
  const requests = subject.homeserver.arrivedSince(begin);
  assert.match(await subject.log(), /by a new device/);
  return { lastedMs: ms, recoveredMs: ms, requests, ...await subject.finish() };
}

async function logOutEverywhere(ground: Ground, { operatorId, password }: Subject): Promise<void> {
  const api = `${ground.testbed.homeserver.url}/_matrix/client/v3`;
  const identifier = { type: "m.id.user", user: operatorId };
  const body = { type: "m.login.password", identifier, password };
  const { access_token } = await httpJson("POST", `${api}/login`, { body });
  await httpJson("POST", `${api}/logout/all`, { authorization: `Bearer ${access_token}`, body: {} });
}

async function deleteDevice(ground: Ground, { operatorId, password }: Subject, deviceId: string): Promise<void> {
  await deleteOwnDevice(ground.testbed.homeserver, operatorId, password, deviceId);
}

/** All previous tokens are refused and can't be refreshed. The operator logs in again as the same device. */
async function softLogout(ground: Ground): Promise<Measured> {
  await using subject = await Subject.ready(ground);
  using _refresh = refuseRefresh(subject);
  const before = await devices(ground, subject);
  let old: string | undefined;
  const begin = performance.now();
  await subject.homeserver.setFault({
    kind: "answer",
    status: 401,
    body: { errcode: "M_UNKNOWN_TOKEN", error: "Soft logged out", soft_logout: true },
    when: ({ authorization }) => {
      if (authorization !== "") old ??= authorization;
      return authorization !== "" && authorization === old;
    },
  });
  assert.match(await subject.ask("start", 1), /is on/);
  const ms = performance.now() - begin;
  const requests = subject.homeserver.arrivedSince(begin);
  assert.match(await subject.log(), /logging in again as the same device/);
  assert.deepEqual(await devices(ground, subject), before);
  return { lastedMs: ms, recoveredMs: ms, requests, ...await subject.finish() };
}

/** Refuses all refresh tokens from now on. */
export function refuseRefresh({ homeserver }: Subject): Disposable {
  return homeserver.addFault({
    kind: "answer",
    status: 403,
    body: { errcode: "M_FORBIDDEN", error: "The supplied refresh token has expired" },
    when: ({ path }) => path.endsWith("/refresh"),
  });
}

export const loginRows: readonly Row<Ground>[] = [
  {
    fault: "login: token revoked (logged out everywhere)",
    run: (ground) => loseDevice(ground, (subject) => logOutEverywhere(ground, subject)),
  },
  {
    fault: "login: device deleted",
    run: (ground) => loseDevice(ground, (subject, deviceId) => deleteDevice(ground, subject, deviceId)),
  },
  { fault: "login: soft logout", run: softLogout },
];
