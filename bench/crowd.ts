/**
 * Many rooms, users and targets in the sandbox, with the operator between them as a process of its own.
 *
 * In each room one person speaks, with a phone that encrypts and decrypts; the other members have an account and a
 * device with real keys, to which everything in the room is encrypted, but nobody reads it there.
 *
 * @module
 */

import { join } from "node:path";
import { Homeserver } from "../sandbox/homeserver/mod.ts";
import { KubernetesSandbox } from "../sandbox/kubernetes/mod.ts";
import { Api, Person, PersonCrypto } from "../sandbox/person/mod.ts";
import { Child, containment } from "../testbed/mod.ts";
import { imageEnvironment, operatorReady } from "./operator.ts";

/** Size of a {@linkcode Crowd}. */
export interface CrowdSize {
  readonly rooms: number;
  /** Allowed users. */
  readonly users: number;
  readonly targets: number;
}

/** A room in which somebody gives commands. */
export interface CrowdRoom {
  readonly id: string;
  /** Who gives them. */
  readonly speaker: Person;
  /** The only target that they are for. */
  readonly target: string;
}

/** A person speaks in so many rooms. */
const roomsOfOneSpeaker = 2;
/** Durations of pods. */
const pods = { startMs: 1_000, stopMs: 200, observeMs: 10 };
const readyMs = 120_000;
const joinedMs = 60_000;

/** Servers, users and the operator. */
export class Crowd implements AsyncDisposable {
  readonly kubernetes: KubernetesSandbox;
  /** The operator's user id. */
  readonly operatorId: string;
  readonly rooms: CrowdRoom[] = [];
  readonly #folder: string;
  readonly #environment: Readonly<Record<string, string>>;
  readonly #resources: AsyncDisposableStack;
  #operator: Child | undefined;
  #starts = 0;

  private constructor(
    parts: Pick<Crowd, "kubernetes" | "operatorId">,
    folder: string,
    environment: Readonly<Record<string, string>>,
    resources: AsyncDisposableStack,
  ) {
    ({ kubernetes: this.kubernetes, operatorId: this.operatorId } = parts);
    this.#folder = folder;
    this.#environment = environment;
    this.#resources = resources;
    resources.defer(() => this.stop());
  }

  /**
   * Sets everything up. All targets are off.
   *
   * @param command the operator
   * @param report called with what has been done
   */
  static async open(
    { rooms: roomCount, users, targets }: CrowdSize,
    command: readonly string[],
    report: (done: string) => void,
  ): Promise<Crowd> {
    await using resources = new AsyncDisposableStack();
    const folder = await Deno.makeTempDir({ prefix: "bench-scale-" });
    resources.defer(() => Deno.remove(folder, { recursive: true }));
    const homeserver = resources.use(new Homeserver());
    const kubernetes = resources.use(await KubernetesSandbox.start(pods));
    const aliases = Array.from({ length: targets }, (_, index) => `target-${index}`);
    for (const name of aliases) kubernetes.create({ namespace: "bench", name });
    const kubeconfig = join(folder, "kubeconfig");
    const rules = [
      { namespace: "bench", resources: ["deployments"], verbs: ["get", "list", "watch"] },
      { namespace: "bench", resources: ["deployments/scale"], verbs: ["get", "patch"] },
    ];
    await kubernetes.writeKubeconfig(kubeconfig, kubernetes.token("operator", rules));

    const speakerCount = Math.ceil(roomCount / roomsOfOneSpeaker);
    const names = Array.from({ length: users }, (_, index) => `user-${index}`);
    const userIds = names.map((name) => homeserver.register(name, name));
    const speakers: Person[] = [];
    for (const name of names.slice(0, speakerCount)) {
      const login = { url: homeserver.url, user: name, password: name, crossSigning: true };
      speakers.push(resources.use(await Person.login(login)));
    }
    report(`${speakers.length} people speak`);
    const silent: SilentUser[] = [];
    for (const name of names.slice(speakerCount)) silent.push(await SilentUser.login(homeserver.url, name));
    report(`${silent.length} more users have a device`);

    const operatorId = homeserver.register("toggle", "secret");
    const environment = {
      ...inherited(),
      ...await imageEnvironment(),
      MATRIX_HOMESERVER: homeserver.url,
      MATRIX_USER: "toggle",
      MATRIX_PASSWORD: "secret",
      ALLOWED_USERS: userIds.join(","),
      TARGETS: aliases.map((name) => `${name}=bench/${name}`).join(","),
      CRYPTO_STORE_PATH: join(folder, "store"),
      KUBECONFIG: kubeconfig,
      LOG_LEVEL: "info",
      LOG_FORMAT: "text",
      HTTP_ADDRESS: "127.0.0.1:0",
    };
    const crowd = new Crowd({ kubernetes, operatorId }, folder, environment, resources.move());
    try {
      await crowd.start(command);
      report("the operator is ready");
      for (let index = 0; index < roomCount; index++) {
        const speaker = speakers[index % speakerCount];
        if (speaker === undefined) throw new RangeError("Cannot fill a room without anybody to speak in it");
        const members = silent.filter((_, place) => place % roomCount === index);
        const id = await speaker.createRoom([operatorId, ...members.map(({ userId }) => userId)]);
        for (const member of members) await member.join(id);
        const all = members.length + 2;
        await speaker.until(
          () => speaker.members(id).length === all || undefined,
          joinedMs,
          () => "the operator to join",
        );
        crowd.rooms.push({ id, speaker, target: aliases[index % targets] ?? "" });
      }
      report(`${crowd.rooms.length} rooms are filled`);
    } catch (error) {
      await crowd[Symbol.asyncDispose]();
      throw error;
    }
    return crowd;
  }

  /** Process id of the operator. */
  get pid(): number {
    if (this.#operator === undefined) throw new Error("Cannot tell its process id: the operator isn't running");
    return this.#operator.pid;
  }

  /** Starts the operator and waits until it takes commands. */
  async start(command: readonly string[]): Promise<void> {
    const logFile = join(this.#folder, `operator-${this.#starts++}.log`);
    this.#operator = new Child({
      name: "the operator",
      command: [...containment(), ...command],
      environment: this.#environment,
      clearEnvironment: true,
      logFile,
    });
    const isReady = async () => operatorReady.test(await Deno.readTextFile(logFile).catch(() => ""));
    await this.#operator.untilReady(isReady, readyMs);
  }

  /** Stops the operator, if it is running. */
  async stop(): Promise<void> {
    await this.#operator?.stop(10_000);
    this.#operator = undefined;
  }

  /** Ends everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}

/** A user with a device who neither reads nor writes. */
class SilentUser {
  readonly userId: string;
  readonly #api: Api;

  private constructor(userId: string, api: Api) {
    this.userId = userId;
    this.#api = api;
  }

  /** Logs in with a new device and publishes its keys. */
  static async login(url: string, name: string): Promise<SilentUser> {
    const api = new Api(url, new AbortController().signal);
    const identifier = { type: "m.id.user", user: name };
    const session = await api.request("POST", "/login", { type: "m.login.password", identifier, password: name });
    api.token = String(session["access_token"]);
    const userId = String(session["user_id"]);
    using crypto = await PersonCrypto.create(userId, String(session["device_id"]), api);
    await crypto.flush();
    return new SilentUser(userId, api);
  }

  async join(roomId: string): Promise<void> {
    await this.#api.request("POST", `/rooms/${encodeURIComponent(roomId)}/join`, {});
  }
}

/** What Deno needs of our own environment. */
function inherited(): Record<string, string> {
  const names = ["PATH", "HOME", "DENO_DIR"];
  return Object.fromEntries(names.flatMap((name) => Deno.env.has(name) ? [[name, Deno.env.get(name) ?? ""]] : []));
}
