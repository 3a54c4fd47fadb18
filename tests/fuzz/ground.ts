/**
 * Where the fuzz takes place: the sandbox's servers with a proxy before each, whose answers a forger changes, and the
 * rate of the requests that arrive there.
 *
 * @module
 */

import { join } from "node:path";
import { FaultProxy, type Forge } from "../../testbed/proxy.ts";
import { authority, certificate, privateKey } from "../certificates.ts";
import { Place } from "../faults/place.ts";
import type { Forger, Question } from "./forger.ts";
import { kubernetesEndpoint, kubernetesGrammar, kubernetesStatus } from "./kubernetes.ts";
import { matrixEndpoint, matrixError, matrixGrammar } from "./matrix.ts";

/** So many requests may come at once, and from then on ten a second. */
const BURST = 50;
const PER_SECOND = 10;
/** Of the requests by which the rate is told. */
const WINDOW_MS = 10_000;

const namespace = "clawdbot";
/** What the extended Role permits. */
const permissions = [
  { namespace, resources: ["deployments"], verbs: ["get", "watch"] },
  { namespace, resources: ["deployments/scale"], verbs: ["get", "patch"] },
  { namespace, resources: ["pods"], verbs: ["list"] },
  { namespace, resources: ["events"], verbs: ["create"] },
];

/** What would be a lie that nobody could see through, if it were told without being done. */
const MUST_BE_DONE = [
  "sendToDevice",
  "keys/upload",
  "device_signing",
  "signatures",
  "join",
  "leave",
  "scale",
  "logout",
];

/** How often what is asked for. */
export class Rates {
  /** The most requests a second, over ten seconds, by what is asked for. */
  readonly most: Map<string, number> = new Map();
  readonly #asked = new Map<string, { recent: number[]; level: number; isTold: boolean }>();
  #begun = false;
  readonly #tooFast: (what: string, perSecond: number) => void;

  /** `tooFast` is told of what is asked for again and again. */
  constructor(tooFast: (what: string, perSecond: number) => void) {
    this.#tooFast = tooFast;
  }

  /** Begins to look; before, it has been warming up. */
  begin(): void {
    this.#begun = true;
  }

  /** Notes a request. */
  note(what: string): void {
    if (!this.#begun) return;
    const now = performance.now();
    const { recent: before, level, isTold } = this.#asked.get(what) ?? { recent: [], level: 0, isTold: false };
    const passedMs = now - (before.at(-1) ?? now);
    const recent = [...before.filter((at) => at > now - WINDOW_MS), now];
    const next = { recent, level: Math.max(0, level - passedMs * PER_SECOND / 1_000) + 1, isTold };
    const perSecond = recent.length / (WINDOW_MS / 1_000);
    this.most.set(what, Math.max(perSecond, this.most.get(what) ?? 0));
    // A tenth for the inaccuracy of timers.
    if (!isTold && next.level > BURST * 1.1) {
      next.isTold = true;
      this.#tooFast(what, perSecond);
    }
    this.#asked.set(what, next);
  }
}

/** The servers, the proxies and the person. */
export class Ground implements AsyncDisposable {
  readonly place: Place;
  /** Before the homeserver. */
  readonly matrix: FaultProxy;
  /** Before the cluster. */
  readonly cluster: FaultProxy;
  /** Before the homeserver's .well-known, with TLS. */
  readonly wellKnown: FaultProxy;
  /** The operator's environment: everything goes through the proxies. */
  readonly environment: Readonly<Record<string, string>>;
  readonly #resources: AsyncDisposableStack;

  private constructor(
    parts: Pick<Ground, "place" | "matrix" | "cluster" | "wellKnown" | "environment">,
    resources: AsyncDisposableStack,
  ) {
    ({
      place: this.place,
      matrix: this.matrix,
      cluster: this.cluster,
      wellKnown: this.wellKnown,
      environment: this.environment,
    } = parts);
    this.#resources = resources;
  }

  /** Sets it up. Nothing is changed as long as the forger has nothing active. */
  static async open(forger: Forger, rates: Rates): Promise<Ground> {
    await using resources = new AsyncDisposableStack();
    const place = resources.use(await Place.open());
    const matrix = resources.use(await FaultProxy.start({ url: place.homeserver.url }));
    const wellKnown = resources.use(
      await FaultProxy.start({ url: place.homeserver.url }, { cert: certificate, key: privateKey }),
    );
    const cluster = resources.use(await FaultProxy.start({ url: place.kubernetes.url }));
    const forgeMatrix = matrixForge(place, forger, rates);
    await matrix.begin({ kind: "forge", forge: forgeMatrix });
    await cluster.begin({ kind: "forge", forge: kubernetesForge(forger, rates) });
    const discovered = JSON.stringify({ "m.homeserver": { base_url: matrix.url } });
    await wellKnown.begin({
      kind: "forge",
      forge: async (request) => {
        const truth = {
          status: 200,
          headers: { "content-type": "application/json" },
          body: discovered,
          then: "end",
        } as const;
        return await forgeMatrix(request, () => Promise.resolve(truth)) ?? truth;
      },
    });
    const folder = await Deno.makeTempDir({ prefix: "fuzz-" });
    resources.defer(() => Deno.remove(folder, { recursive: true }));
    const kubeconfig = join(folder, "kubeconfig");
    const config = {
      "current-context": "fuzz",
      clusters: [{ name: "fuzz", cluster: { server: cluster.url } }],
      users: [{ name: "fuzz", user: { token: place.kubernetes.token("openclaw-toggle", permissions) } }],
      contexts: [{ name: "fuzz", context: { cluster: "fuzz", user: "fuzz" } }],
    };
    await Deno.writeTextFile(kubeconfig, JSON.stringify(config));
    const authorityFile = join(folder, "authority.pem");
    await Deno.writeTextFile(authorityFile, authority);
    const environment = {
      ...place.environment,
      NO_PROXY: "127.0.0.1",
      DENO_CERT: authorityFile,
      MATRIX_HOMESERVER: matrix.url,
      KUBECONFIG: kubeconfig,
    };
    return new Ground({ place, matrix, cluster, wellKnown, environment }, resources.move());
  }

  /** Ends what was kept waiting; from then on the answers are the servers' own. */
  heal(forger: Forger): void {
    forger.active = new Set();
    for (const proxy of [this.matrix, this.cluster, this.wellKnown]) proxy.release();
  }

  /** Ends everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}

function matrixForge(place: Place, forger: Forger, rates: Rates): Forge {
  return async ({ method, path, url }, ask) => {
    // Each transaction is another, and each message.
    rates.note(`${method} ${path.replace(/(\/(?:send|sendToDevice)\/[^/]*)\/.*$/, "$1")}`);
    const endpoint = matrixEndpoint(method, path);
    if (endpoint === undefined) return undefined;
    const query = new URLSearchParams(url.split("?")[1]);
    const { anna, operatorId } = place;
    const messages = anna.messages().slice(-20);
    const rooms = [...new Set(messages.map(({ roomId }) => roomId)), "!none:localhost"];
    const grammar = matrixGrammar({
      users: [operatorId, anna.userId],
      rooms,
      devices: [anna.deviceId, "PHONE"],
      events: [...messages.map(({ eventId }) => eventId), "$none"],
    })[endpoint];
    if (grammar === undefined) return undefined;
    const question: Question = {
      endpoint,
      token: query.get("since") ?? query.get("from") ?? "s0_0",
      grammar,
      error: matrixError,
      done: method === "GET" ? "never" : MUST_BE_DONE.includes(endpoint) ? "always" : "sometimes",
      streamed: false,
    };
    return await forger.answer(question, ask);
  };
}

function kubernetesForge(forger: Forger, rates: Rates): Forge {
  return async ({ method, url }, ask) => {
    rates.note(`${method} ${url.replace(/resourceVersion=[^&]*/, "")}`);
    const endpoint = kubernetesEndpoint(method, url);
    const grammar = endpoint === undefined ? undefined : kubernetesGrammar[endpoint];
    if (endpoint === undefined || grammar === undefined) return undefined;
    const streamed = endpoint === "watch";
    const done = method === "GET" ? "never" : "always";
    return await forger.answer({ endpoint, token: "", grammar, error: kubernetesStatus, done, streamed }, ask);
  };
}
