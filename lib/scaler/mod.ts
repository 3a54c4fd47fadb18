/**
 * Kubernetes: finds the cluster, reads and sets the counts of workloads, tells how they fare, and answers the connection
 * test. Knows nothing of chats and commands.
 *
 * @module
 */

export { canI, type Permission, serverVersion, whoAmI } from "./access_reviews.ts";
export { type ApiOptions, type Call, KubernetesApi, type WatchEvent } from "./api.ts";
export { type Cluster, type ClusterPlaces, type Credential, openCluster, placesIn } from "./cluster.ts";
export type { KubernetesEvent } from "./events.ts";
export type { Attempt } from "./failure.ts";
export type { Diagnosis, Problem } from "./pod_diagnosis.ts";
export { KubernetesScaler } from "./scaler.ts";
export { type Counts, FIELD_MANAGER, type Scale, type Workload } from "./workloads.ts";
