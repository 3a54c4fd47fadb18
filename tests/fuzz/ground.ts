/**
 * Environment of the fuzz test: the sandbox's servers, a proxy in front of each whose responses the forger changes, and
 * a meter for the rate of requests.
 *
 * @module
 */

import { join } from "node:path";
import { FaultProxy, type Forge } from "../../testbed/proxy.ts";
import { authority, certificate, privateKey } from "../certificates.ts";
import { Fixture } from "../faults/fixture.ts";
import type { Forger, Question } from "./forger.ts";
import { kubernetesEndpoint, kubernetesGrammar, kubernetesStatus } from "./kubernetes.ts";
import { matrixEndpoint, matrixError, matrixGrammar } from "./matrix.ts";

/** Permitted burst of requests. Beyond it, ten per second. */
const BURST = 50;
const PER_SECOND = 10;
/** Window over which the rate is averaged. */
const WINDOW_MS = 10_000;

const namespace = "clawdbot";
/** Permissions of the extended Role. */
const permissions = [
  { namespace, resources: ["deployments"], verbs: ["get", "watch"] },
  { namespace, resources: ["deployments/scale"], verbs: ["get", "patch"] },
  { namespace, resources: ["pods"], verbs: ["list"] },
  { namespace, resources: ["events"], verbs: ["create"] },
];

/** Requests for which a forged success without execution would be a lie that nobody can detect. */
const MUST_BE_DONE = [
  "sendToDevice",
  "keys/upload",
  "device_signing",
  "signatures",
  "account_data",
  "join",
  "leave",
  "scale",
  "logout",
];

/** Measures the rate of requests by kind. */
export class Rates {
  /** Highest rate by kind, in requests per second, averaged over ten seconds. */
  readonly most: Map<string, number> = new Map();
  readonly #asked = new Map<string, { recent: number[]; level: number; isTold: boolean }>();
  #begun = false;
  readonly #tooFast: (what: string, perSecond: number) => void;

  /** @param tooFast called once per kind when its rate exceeds the limit */
  constructor(tooFast: (what: string, perSecond: number) => void) {
    this.#tooFast = tooFast;
  }

  /** Starts measuring. Requests before that belong to the warm-up. */
  begin(): void {
    this.#begun = true;
  }

  /** Records a request. */
  note(what: string): void {
    if (!this.#begun) return;
    const now = performance.now();
    const { recent: before, level, isTold } = this.#asked.get(what) ?? { recent: [], level: 0, isTold: false };
    const passedMs = now - (before.at(-1) ?? now);
    const recent = [...before.filter((at) => at > now - WINDOW_MS), now];
    const next = { recent, level: Math.max(0, level - passedMs * PER_SECOND / 1_000) + 1, isTold };
    const perSecond = recent.length / (WINDOW_MS / 1_000);
    this.most.set(what, Math.max(perSecond, this.most.get(what) ?? 0));
    // 10% tolerance for timer inaccuracy.
    if (!isTold && next.level > BURST * 1.1) {
      next.isTold = true;
      this.#tooFast(what, perSecond);
    }
    this.#asked.set(what, next);
  }
}

/** The servers, the proxies and the person. */
export class Ground implements AsyncDisposable {
  readonly place: Fixture;
  /** Proxy in front of the homeserver. */
  readonly matrix: FaultProxy;
  /** Proxy in front of the cluster. */
  readonly cluster: FaultProxy;
  /** Proxy with TLS in front of the homeserver's .well-known. */
  readonly wellKnown: FaultProxy;
  /** Environment of the operator. All its connections go through the proxies. */
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

  /** Sets everything up. Nothing is changed until the forger has active endpoints. */
  static async open(forger: Forger, rates: Rates): Promise<Ground> {
    await using resources = new AsyncDisposableStack();
    const place = resources.use(await Fixture.open());
    const matrix = resources.use(await FaultProxy.start({ url: place.homeserver.url }));
    const wellKnown = resources.use(
      await FaultProxy.start({ url: place.homeserver.url }, { cert: certificate, key: privateKey }),
    );
    const cluster = resources.use(await FaultProxy.start({ url: place.kubernetes.url }));
    const forgeMatrix = matrixForge(place, forger, rates);
    await matrix.setFault({ kind: "forge", forge: forgeMatrix });
    await cluster.setFault({ kind: "forge", forge: kubernetesForge(forger, rates) });
    const discovered = JSON.stringify({ "m.homeserver": { base_url: matrix.url } });
    await wellKnown.setFault({
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
      // With the default it would exit after 15 minutes without three in which all goes well (SPEC 5c).
      MAX_RETRIES: "999999",
    };
    return new Ground({ place, matrix, cluster, wellKnown, environment }, resources.move());
  }

  /** Ends stalled requests. From then on, the servers' own responses are passed. */
  heal(forger: Forger): void {
    forger.active = new Set();
    for (const proxy of [this.matrix, this.cluster, this.wellKnown]) proxy.release();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}

function matrixForge(place: Fixture, forger: Forger, rates: Rates): Forge {
  return async ({ method, path, url }, ask) => {
    // Every transaction and message has its own ID, so IDs are cut off.
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
