/**
 * Kubernetes: finds the cluster, reads and scales workloads, diagnoses rollouts, and runs the connection test's
 * queries. Doesn't depend on Matrix or commands.
 *
 * @module
 */

export { canI, type Permission, scalableNames, serverVersion, whoAmI } from "./access_reviews.ts";
export { type Action, type ApiOptions, type Call, type ClusterAccess, KubernetesApi, type WatchEvent } from "./api.ts";
export {
  Cluster,
  type Connection,
  type Credentials,
  type CredentialSource,
  type Header,
  type TlsOptions,
} from "./credentials.ts";
export type { KubernetesEvent } from "./events.ts";
export { type ClusterEnvironment, clusterEnvironment, openCluster } from "./open_cluster.ts";
export type { Diagnosis, Problem } from "./pod_diagnosis.ts";
export { KubernetesScaler } from "./scaler.ts";
export { type Counts, FIELD_MANAGER, type Scale, type Workload } from "./workloads.ts";
