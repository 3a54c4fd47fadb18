/** Serves health at the address that its arguments name, prints what it listens on, or why not, and ends. */

import { errorMessage } from "../../lib/errors.ts";
import { Health, Metrics, serveHealth } from "../../lib/service/mod.ts";

const [hostname = "", fallback] = Deno.args;
const address = { hostname, port: 0, ...fallback === undefined ? {} : { fallback } };
try {
  await using server = await serveHealth(address, new Health(), await Metrics.open("1.2.3", () => 0));
  const response = await fetch(`http://127.0.0.1:${server.port}/healthz`);
  console.log(`listening, healthz: ${await response.text()}`);
} catch (error) {
  console.log(errorMessage(error));
}
