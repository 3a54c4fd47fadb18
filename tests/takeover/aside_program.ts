/** Sets the old store of a folder aside: a program of its own, so that it can be run with fewer rights. */

import { setOldStoreAside } from "../../lib/takeover/mod.ts";

setOldStoreAside(Deno.args[0] ?? "");
