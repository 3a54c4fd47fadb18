/**
 * Real servers on this machine for the end-to-end suite: Synapse, a Kubernetes control plane, and users with phones.
 * Everything is set up automatically under `.cache/testbed`, listens on free ports, and ends with this process.
 *
 * Existing servers are used instead if the environment names them: `KUBECONFIG` (credentials that may create
 * namespaces, roles and tokens), `MATRIX_HOMESERVER` with `E2E_REGISTRATION_SECRET` (its `registration_shared_secret`).
 *
 * @module
 */

import { join } from "node:path";
import { type ControlPlane, existingControlPlane, type PodDelays, startControlPlane } from "./cluster.ts";
import { startDendrite } from "./dendrite.ts";
import {
  existingHomeserver,
  type Homeserver,
  type HomeserverKind,
  homeserverKinds,
  startHomeserver,
} from "./homeserver.ts";
import { type Keycloak, startKeycloak } from "./keycloak.ts";
import { type Person, Phones } from "./person.ts";
import { cacheFolder, setUp } from "./setup.ts";
import { dendrite } from "./tools.ts";
import { ClusterRecords } from "./cluster_records.ts";
import { Namespaces } from "./namespaces.ts";
import { ServiceAccounts } from "./service_accounts.ts";
import { Workloads } from "./workloads.ts";

export type { ControlPlane, PodDelays } from "./cluster.ts";
export type { Homeserver, HomeserverKind } from "./homeserver.ts";
export type { Keycloak } from "./keycloak.ts";
export { freePort, HttpError, httpJson, type HttpOptions } from "./network.ts";
export { Person, Phones, type RawOptions, type TextOptions } from "./person.ts";
export { type Content, type SeenEvent, Watch } from "./watch.ts";
export { containment } from "./pod.ts";
export { actionlint, customResources, kubectl, kustomize, promlint, promrules } from "./tools.ts";
export { Child, type ChildOptions } from "./process.ts";
export { installPythonOperator, PythonOperator, type PythonOperatorOptions } from "./python_operator.ts";
export { type ClusterEvent, ClusterRecords, type ScaleWrite } from "./cluster_records.ts";
export { baseRules, extendedRules, type Rule, type ServiceAccount, ServiceAccounts } from "./service_accounts.ts";
export { type TargetOptions, type TargetState, type WorkloadResource, Workloads } from "./workloads.ts";

/** Pods that start, fail and stop fast, but not instantly. */
const quickPods: PodDelays = { startMs: 300, stopMs: 100, runMs: 300, backOffMs: 1_300 };

/** The servers and users. Disposing ends everything that was started. */
export interface Testbed extends AsyncDisposable {
  /** The homeserver. */
  readonly homeserver: Homeserver;
  /** The Kubernetes control plane. */
  readonly cluster: ControlPlane;
  /** The homeserver's Keycloak; undefined unless requested. */
  readonly keycloak: Keycloak | undefined;
  /** Creates workloads in the cluster, and reads their state. */
  readonly workloads: Workloads;
  /** Creates ServiceAccounts in the cluster. */
  readonly serviceAccounts: ServiceAccounts;
  /** Events and audit log of the cluster. */
  readonly records: ClusterRecords;
  /** Folder for files of this run, removed at its end. */
  readonly folder: string;
  /** Registers a new user and logs in a phone, which syncs by default. */
  person(name: string, syncing?: boolean): Promise<Person>;
}

/**
 * Sets up what is missing on this machine and starts the servers.
 *
 * @param delays durations in the life of pods on our own control plane
 * @param options `keycloak`: enable login through Keycloak; `rateLimits`: enable Dendrite's own rate limits, except for a
 * user `alice`; `roomVersion`: Synapse's default version of new rooms; `refreshableMs`: lifetime of its refreshable access
 * tokens
 * @throws Error naming what is missing on this machine
 */
export async function startTestbed(
  delays: PodDelays = quickPods,
  options: { keycloak?: boolean; rateLimits?: boolean; roomVersion?: string; refreshableMs?: number } = {},
): Promise<Testbed> {
  await using resources = new AsyncDisposableStack();
  const givenCluster = Deno.env.get("KUBECONFIG");
  const givenUrl = Deno.env.get("MATRIX_HOMESERVER");
  if (givenUrl && options.keycloak) throw new Error("Cannot use MATRIX_HOMESERVER: it has to know our own Keycloak");
  const kind = wantedHomeserver();
  if (kind !== "synapse" && options.keycloak) throw new Error(`Cannot use Keycloak with ${kind}`);
  const { python, controlPlane, keycloak: keycloakTools } = await setUp({ controlPlane: !givenCluster, ...options });

  await removeLeftovers();
  const folder = await Deno.makeTempDir({ dir: cacheFolder, prefix: "run-" });
  resources.defer(() => Deno.remove(folder, { recursive: true }));
  const within = async (name: string) => {
    await Deno.mkdir(join(folder, name));
    return join(folder, name);
  };
  const keycloak = keycloakTools
    ? resources.use(await startKeycloak(keycloakTools, await within("sign-on")))
    : undefined;
  const [homeserver, cluster] = await allOrNone([
    givenUrl
      ? existingHomeserver(givenUrl, registrationSecret())
      : kind === "dendrite"
      ? startDendrite(await dendrite(), await within("homeserver"), options.rateLimits)
      : startHomeserver(python, await within("homeserver"), { ...options, keycloak }),
    controlPlane
      ? startControlPlane(controlPlane, await within("cluster"), delays)
      : existingControlPlane(givenCluster ?? ""),
  ]);
  resources.use(homeserver);
  resources.use(cluster);
  const namespaces = resources.use(new Namespaces(cluster));
  const credentials = await within("credentials");
  const phones = resources.use(new Phones(python, homeserver.url, join(folder, "phones.log")));
  const started = resources.move();
  return {
    homeserver,
    cluster,
    keycloak,
    workloads: new Workloads(cluster, namespaces),
    serviceAccounts: new ServiceAccounts(cluster, namespaces, credentials),
    records: new ClusterRecords(cluster),
    folder,
    person: async (name, syncing) => {
      const password = crypto.randomUUID();
      const { localpart } = await homeserver.register(name, password);
      return await phones.login(localpart, password, syncing);
    },
    [Symbol.asyncDispose]: () => started.disposeAsync(),
  };
}

/** The homeserver of the argument `--homeserver=…`; Synapse by default. */
function wantedHomeserver(): HomeserverKind {
  const name = Deno.args.find((argument) => argument.startsWith("--homeserver="))?.split("=")[1] ?? "synapse";
  const kind = homeserverKinds.find((each) => each === name);
  if (kind === undefined) throw new Error(`--homeserver: must be ${homeserverKinds.join(" or ")} (got "${name}")`);
  return kind;
}

/** Removes folders left by killed runs. A running one is younger than a day. */
async function removeLeftovers(): Promise<void> {
  for await (const { name } of Deno.readDir(cacheFolder)) {
    if (!name.startsWith("run-")) continue;
    const { mtime } = await Deno.stat(join(cacheFolder, name));
    const ageMs = Date.now() - (mtime?.getTime() ?? 0);
    if (ageMs > 24 * 3_600_000) await Deno.remove(join(cacheFolder, name), { recursive: true });
  }
}

/** Waits for both. If one fails, disposes of the other. */
async function allOrNone<A extends AsyncDisposable, B extends AsyncDisposable>(
  starting: readonly [Promise<A>, Promise<B>],
): Promise<[A, B]> {
  try {
    return await Promise.all(starting);
  } catch (error) {
    for (const end of await Promise.allSettled<AsyncDisposable>(starting)) {
      if (end.status === "fulfilled") await end.value[Symbol.asyncDispose]();
    }
    throw error;
  }
}

function registrationSecret(): string {
  const secret = Deno.env.get("E2E_REGISTRATION_SECRET");
  if (!secret) {
    throw new Error(
      "Cannot use MATRIX_HOMESERVER: E2E_REGISTRATION_SECRET (its registration_shared_secret) is not set",
    );
  }
  return secret;
}
