/**
 * Builds ahead of time what only later suites need: Dendrite.
 *
 * @module
 */

import { dendrite } from "./tools.ts";

await dendrite();
