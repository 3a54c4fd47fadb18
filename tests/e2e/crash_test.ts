/** The crash suite on real servers with few kills. `deno task e2e:long` runs more. */

import { crashOnRealServers } from "./crash.ts";

const KILLS = 30;

Deno.test(`killed ${KILLS} times on real servers, the operator loses nothing and does nothing twice`, async () => {
  await crashOnRealServers(KILLS);
});
