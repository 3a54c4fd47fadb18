/**
 * Kubernetes: finds the cluster, reads and sets the counts of workloads, tells how they fare, and answers the connection
 * test. Knows nothing of chats and commands.
 *
 * @module
 */

export { type ApiOptions, type Call, KubernetesApi, type WatchEvent } from "./api.ts";
export { canI, type Permission, serverVersion, whoAmI } from "./checks.ts";
export { type Cluster, type ClusterPlaces, type Credential, openCluster, placesIn } from "./cluster.ts";
export type { Attempt } from "./failure.ts";
export type { Fields } from "./objects.ts";
export { KubernetesRollouts } from "./rollouts.ts";
export { FIELD_MANAGER, KubernetesScaler } from "./scaler.ts";
