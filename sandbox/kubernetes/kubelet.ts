/**
 * Pod statuses as scheduler and kubelet report them, step by step. No container runs: the name of the image decides what
 * happens, with the same names as in testbed/kubernetes.
 *
 * | image | pod |
 * | --- | --- |
 * | `pending` | not scheduled |
 * | `missing` | alternates between ErrImagePull and ImagePullBackOff |
 * | invalid, such as `example/Agent` | InvalidImageName |
 * | `misconfigured` | CreateContainerConfigError |
 * | `crash`, `oom` | exits with 1 or 137 after each start; never ready |
 * | `flap` | like `crash`, but ready while it runs |
 * | `unready` | runs, never ready |
 *
 * @module
 */

import { type KubernetesObject, now } from "./objects.ts";

/** Durations in a pod's life, in milliseconds. */
export interface PodDurations {
  /** From creation of a pod until it is ready. It is Running from half of that time on. */
  startMs: number;
  /** How long a container runs that exits by itself. */
  runMs: number;
  /** First delay between crashes, which doubles each time; and the delay between image pulls. */
  backOffMs: number;
}

/** Next status of a pod, and how long it lasts. Without `waitMs` it is final. */
export interface Step {
  /** `status` of the pod. */
  readonly status: Record<string, unknown>;
  /** Milliseconds until the next step. */
  readonly waitMs: number | undefined;
}

/** Status of a container. */
interface ContainerStatus {
  readonly name: string;
  readonly image: string;
  readonly imageID: string;
  readonly containerID?: string;
  readonly ready: boolean;
  readonly started: boolean;
  readonly restartCount: number;
  readonly state: {
    readonly waiting?: { readonly reason: string; readonly message?: string };
    readonly running?: { readonly startedAt: string };
    readonly terminated?: unknown;
  };
  readonly lastState: { readonly terminated?: unknown };
}

const UNSCHEDULABLE = "0/1 nodes are available: 1 Insufficient memory. no new claims to deallocate, preemption: " +
  "0/1 nodes are available: 1 No preemption victims found for incoming pod.";
const LONGEST_BACK_OFF_MS = 300_000;

/** Returns the next step in a pod's life. */
export function nextStep(pod: KubernetesObject, durations: PodDurations): Step {
  const containers: { name: string; image: string }[] = pod.spec?.containers ?? [];
  if (containers.some(({ image }) => image.includes("pending"))) {
    const condition = { type: "PodScheduled", status: "False", reason: "Unschedulable", message: UNSCHEDULABLE };
    const conditions = [{ ...condition, lastTransitionTime: now() }];
    return { status: { phase: "Pending", conditions, qosClass: "BestEffort" }, waitMs: undefined };
  }
  const before: ContainerStatus[] = pod.status?.containerStatuses ?? [];
  const steps = containers.map((container, index) => nextOf(pod, container, before[index], durations));
  const containerStatuses = steps.map(([status]) => status);
  const waits = steps.flatMap(([, waitMs]) => waitMs ?? []);
  const unready = containerStatuses.filter(({ ready }) => !ready).map(({ name }) => name);
  const readiness = unready.length === 0 ? { status: "True" } : {
    status: "False",
    reason: "ContainersNotReady",
    message: `containers with unready status: [${unready.join(" ")}]`,
  };
  const conditions = [
    { type: "PodReadyToStartContainers", status: "True" },
    { type: "Initialized", status: "True" },
    { type: "Ready", ...readiness },
    { type: "ContainersReady", ...readiness },
    { type: "PodScheduled", status: "True" },
  ].map((condition) => ({ ...condition, lastTransitionTime: sinceWhen(pod, condition) }));
  // A pod is Running once all of its containers have started.
  const phase = containerStatuses.some(({ containerID }) => containerID === undefined) ? "Pending" : "Running";
  const status = { phase, conditions, containerStatuses, startTime: pod.status?.startTime ?? now() };
  return {
    status: { ...status, qosClass: "BestEffort" },
    waitMs: waits.length === 0 ? undefined : Math.min(...waits),
  };
}

function sinceWhen(pod: KubernetesObject, { type, status }: { type: string; status: string }): string {
  const earlier: Record<string, string>[] = pod.status?.conditions ?? [];
  return earlier.find((each) => each.type === type && each.status === status)?.lastTransitionTime ?? now();
}

function nextOf(
  pod: KubernetesObject,
  { name, image }: { name: string; image: string },
  before: ContainerStatus | undefined,
  { startMs, runMs, backOffMs }: PodDurations,
): [ContainerStatus, waitMs?: number] {
  const { restartCount = 0, lastState = {}, containerID } = before ?? {};
  const has = {
    name,
    image: containerID === undefined ? image : before?.image ?? image,
    imageID: before?.imageID ?? "",
  };
  const still = { ...has, ...(containerID === undefined ? {} : { containerID }), ready: false, started: false };
  const waiting = (reason: string, message?: string): ContainerStatus => {
    const state = { waiting: { reason, ...(message === undefined ? {} : { message }) } };
    return { ...still, restartCount, lastState, state };
  };
  if (before === undefined) return [waiting("ContainerCreating"), startMs / 2];

  const { repository, path, full } = parseImage(image);
  if (/[A-Z]/.test(path)) {
    const why = `invalid reference format: repository name (${path}) must be lowercase`;
    const message = `Failed to apply default image tag "${image}": couldn't parse image name "${image}": ${why}`;
    return [waiting("InvalidImageName", message)];
  }
  const is = (mark: string) => image.includes(mark);
  if (is("missing")) {
    const why = `rpc error: code = NotFound desc = failed to pull and unpack image "${full}": ` +
      `failed to resolve reference "${full}": ${full}: not found`;
    const pulled = before.state.waiting?.reason === "ErrImagePull";
    const back = `Back-off pulling image "${image}": ErrImagePull: ${why}`;
    return [pulled ? waiting("ImagePullBackOff", back) : waiting("ErrImagePull", why), backOffMs];
  }
  if (is("misconfigured")) return [waiting("CreateContainerConfigError", `configmap "${name}" not found`)];

  const ends = is("crash") || is("oom") || is("flap");
  const { running, terminated } = before.state;
  if (running !== undefined && ends) {
    const how = is("oom") ? { exitCode: 137, reason: "OOMKilled" } : { exitCode: 1, reason: "Error" };
    const end = { ...how, startedAt: running.startedAt, finishedAt: now(), containerID };
    // The first restart is immediate.
    if (restartCount === 0) return [{ ...still, restartCount, lastState, state: { terminated: end } }, runMs];
    const waitMs = Math.min(backOffMs * 2 ** (restartCount - 1), LONGEST_BACK_OFF_MS);
    const called = `${pod.metadata.name}_${pod.metadata.namespace}(${pod.metadata.uid})`;
    const message = `back-off ${waitMs / 1_000}s restarting failed container=${name} pod=${called}`;
    return [{ ...waiting("CrashLoopBackOff", message), lastState: { terminated: end } }, waitMs];
  }
  if (running !== undefined) return [{ ...before, ready: !is("unready") }];
  const started: ContainerStatus = {
    ...has,
    image: full,
    imageID: `${repository}@sha256:${"0".repeat(64)}`,
    containerID: `containerd://${crypto.randomUUID()}`,
    ready: is("flap"),
    started: true,
    restartCount: containerID === undefined ? 0 : restartCount + 1,
    lastState: terminated === undefined ? lastState : { terminated },
    state: { running: { startedAt: now() } },
  };
  return [started, ends ? runMs : startMs / 2];
}

/** Parses an image reference as container runtimes do. */
function parseImage(image: string): { repository: string; path: string; full: string } {
  const [, name = image, tag = ":latest"] = /^(.*?)((?::[^:/@]+)?(?:@.+)?)$/.exec(image) ?? [];
  const [first = "", ...rest] = name.split("/");
  const isHost = rest.length > 0 && (/[.:]/.test(first) || first === "localhost");
  const path = isHost ? rest.join("/") : rest.length > 0 ? name : `library/${name}`;
  const repository = `${isHost ? first : "docker.io"}/${path}`;
  return { repository, path, full: repository + (tag || ":latest") };
}
