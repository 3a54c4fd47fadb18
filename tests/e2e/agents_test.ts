/**
 * Agents that sleep and wake, on real servers. The agent has its own account, and its program answers while its
 * Deployment is ready. The operator is killed at every step. `-- --wakes=100` wakes the agent more often.
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import {
  extendedRules,
  type Person,
  type SeenEvent,
  startTestbed,
  type TargetState,
  type Testbed,
} from "../../testbed/mod.ts";
import { countOf } from "../long/arguments.ts";
import { OperatorProcess } from "../operator_process.ts";
import { bodyOf, Conversation, editedBy, repliesTo, textOf } from "./conversation.ts";

const DEPLOYMENT = "clawdbot";
/** Longer than anything takes that happens at all, even on a slow machine. */
const PATIENCE_MS = 30_000;
/** Longer than the whole test takes. */
const TEST_MS = 3_600_000;
/** The shortest permitted idle timeout. */
const IDLE_STOP = "1m";
const wakes = countOf("wakes", 4);

/** Points at which the operator is killed while it wakes the agent. */
const steps = ["never", "when the message is sent", "when the count is set", "when it has told"] as const;

Deno.test(`an agent is woken by a message, ${wakes} times, and falls asleep, with kills at every step`, async (t) => {
  await using world = await AgentWorld.create();
  const { talk, alice } = world;
  const began = performance.now();
  const took: number[] = [];
  try {
    for (let wake = 0; wake < wakes; wake += 1) {
      const step = steps[wake % steps.length] ?? "never";
      await t.step(`asleep → message → woken, answered; killed ${step}`, async () => {
        await world.putToSleep();
        const { generation } = await world.state();
        const sent = performance.now();
        const messageId = await talk.send(`hello ${wake}`);
        if (step === "when the message is sent") await world.killAndRestart();
        if (step === "when the count is set") {
          await world.state((state) => state.generation > generation);
          await world.killAndRestart();
        }
        if (step === "when it has told") {
          await talk.answerTo(messageId, PATIENCE_MS);
          await world.killAndRestart();
        }
        await world.answered(`hello ${wake}`);
        took.push(performance.now() - sent);
        await world.said("ready", (event) => /^clawdbot is ready \(took /.test(textOf(event)), messageId);
        assert.equal((await world.state()).generation - generation, 1, "one start");
        assert.equal(talk.answersTo(messageId).length, 1, "one notice, edited");
        assert.equal(talk.saidAbout(messageId).length, 1, "and nothing besides");
      });
    }

    await t.step(
      "a stranger, a message that is sent again, and one in a room without the agent wake nothing",
      async () => {
        await world.putToSleep();
        const { generation } = await world.state();
        const { talk: other, stranger } = await world.withStranger();
        const mentions = [world.agentId];
        await stranger.sendText(other.roomId, "wake up", { mentions });
        const text = { msgtype: "m.text", body: "once", "m.mentions": { user_ids: mentions } };
        const once = await alice.encrypt(other.roomId, "m.room.message", text);
        await world.alone("is anybody there?");
        // The operator reads in order, so once this is answered, the earlier messages have no effect.
        await other.ask("status", { mentions: [world.operatorId] });
        assert.equal((await world.state()).generation, generation);
        await alice.sendRaw(other.roomId, once.type, once.content, { encrypted: false });
        await world.state((state) => state.generation === generation + 1 && state.ready > 0);
        await world.putToSleep(other);
        const again = await world.state();
        await alice.sendRaw(other.roomId, once.type, once.content, { encrypted: false });
        await other.ask("status", { mentions: [world.operatorId] });
        assert.equal((await world.state()).generation, again.generation);
        await talk.send("hello again");
        await world.answered("hello again");
      },
    );

    await t.step("the operator ignores messages to an agent that is awake", async () => {
      const { generation } = await world.state();
      const ids = [];
      for (const text of ["stop", "thanks, good night", "status"]) ids.push(await talk.send(text));
      await world.answered("status");
      const { answer } = await talk.ask("status", { mentions: [world.operatorId] });
      assert.match(bodyOf(answer), /^clawdbot is running: 1\/1 ready/);
      assert.deepEqual(ids.flatMap((id) => talk.saidAbout(id)), []);
      assert.equal((await world.state()).generation, generation);
    });

    await t.step("idle → warned → stopped; killed after the warning, and after the count is set", async () => {
      const { generation } = await world.state();
      const told = await world.said("warning", (event) => /goes to sleep in /.test(textOf(event)), undefined, 75_000);
      assert.equal((await world.state()).replicas, 1);
      await world.killAndRestart();
      await world.state(({ replicas }) => replicas === 0, 30_000);
      await world.killAndRestart();
      const end = await world.said("end", (event) => editedBy(event) === told.eventId, undefined);
      assert.match(textOf(end), /^clawdbot is off: no message for 1 min\. Write to @clawd\S* to wake it\.$/);
      assert.equal((await world.state()).generation - generation, 1, "one stop");
      const warnings = talk.seen.events.filter((event) => /goes to sleep in /.test(textOf(event)));
      assert.equal(warnings.length, 1, "told once");
    });

    await t.step("asleep → message → woken, answered; then a stop by chat holds", async () => {
      const messageId = await talk.send("good morning");
      await world.answered("good morning");
      assert.equal(talk.answersTo(messageId).length, 1);
      await talk.ask("stop", { mentions: [world.operatorId] });
      const { generation } = await world.state(({ current }) => current === 0);
      const first = await talk.ask("thanks, good night");
      assert.match(textOf(first.answer), /^clawdbot is off until somebody sends me `start`/);
      const second = await talk.send("are you there?");
      const { answer } = await talk.ask("status", { mentions: [world.operatorId] });
      assert.match(bodyOf(answer), /^clawdbot is off/);
      assert.deepEqual(talk.saidAbout(second), []);
      assert.equal((await world.state()).generation, generation);
    });

    const metrics = (await world.operator.probe("metrics")).text;
    assert.match(metrics, /openclaw_toggle_wake_duration_seconds_count\{target="clawdbot"\} 1/, "of this life");
    const sorted = took.toSorted((one, other) => one - other).map((ms) => `${Math.round(ms)} ms`);
    console.log(
      `\n${wakes} messages to ${alice.userId}'s agent, each answered by it: after ${sorted[0]} to ${sorted.at(-1)}; ` +
        `${world.kills} kills; ${Math.round((performance.now() - began) / 1_000)} s`,
    );
  } catch (error) {
    console.log(`the end of the operator's log:\n${world.operator.lines.slice(-40).join("\n")}`);
    throw error;
  }
});

/** Real servers, Alice, her agent and the operator, all three in an encrypted room. */
class AgentWorld implements AsyncDisposable {
  kills = 0;
  operator: OperatorProcess;
  readonly alice: Person;
  readonly operatorId: string;
  readonly agentId: string;
  readonly talk: Conversation;
  readonly state: (wanted?: (state: TargetState) => boolean, deadlineMs?: number) => Promise<TargetState>;
  readonly #environment: Readonly<Record<string, string>>;
  readonly #scale: (replicas: number) => Promise<void>;
  readonly #agent: EchoingAgent;
  readonly #testbed: Testbed;
  readonly #clawd: Person;
  readonly #resources: AsyncDisposableStack;

  private constructor(
    parts:
      & Pick<AgentWorld, "alice" | "operator" | "operatorId" | "state" | "talk">
      & {
        readonly agent: EchoingAgent;
        readonly clawd: Person;
        readonly testbed: Testbed;
        readonly scale: (replicas: number) => Promise<void>;
      },
    environment: Readonly<Record<string, string>>,
    resources: AsyncDisposableStack,
  ) {
    ({
      alice: this.alice,
      operator: this.operator,
      operatorId: this.operatorId,
      state: this.state,
      talk: this.talk,
    } = parts);
    this.#agent = parts.agent;
    this.#clawd = parts.clawd;
    this.#testbed = parts.testbed;
    this.agentId = parts.clawd.userId;
    this.#scale = parts.scale;
    this.#environment = environment;
    this.#resources = resources;
  }

  static async create(): Promise<AgentWorld> {
    await using resources = new AsyncDisposableStack();
    const testbed = resources.use(await startTestbed());
    const { workloads, serviceAccounts, homeserver } = testbed;
    const namespace = `agents-${crypto.randomUUID().slice(0, 8)}`;
    await workloads.createTarget({ namespace, name: DEPLOYMENT });
    const account = await serviceAccounts.create(namespace, "openclaw-toggle", extendedRules(DEPLOYMENT));
    const alice = await testbed.person("alice");
    const clawd = await testbed.person("clawd");
    const password = crypto.randomUUID();
    const { userId: operatorId, localpart } = await homeserver.register("toggle", password);
    const environment = {
      MATRIX_HOMESERVER: homeserver.url,
      MATRIX_USER: localpart,
      MATRIX_PASSWORD: password,
      ALLOWED_USERS: alice.userId,
      AGENTS: clawd.userId,
      IDLE_STOP,
      DEPLOYMENT_NAME: DEPLOYMENT,
      DEPLOYMENT_NAMESPACE: namespace,
      CRYPTO_STORE_PATH: join(testbed.folder, "store"),
      KUBECONFIG: account.kubeconfig,
      LOG_FORMAT: "text",
      LOG_LEVEL: "debug",
    };
    const operator = await OperatorProcess.start({ environment });
    try {
      const talk = await Conversation.begin(alice, operatorId, { invite: [clawd.userId] });
      await clawd.join(talk.roomId);
      await alice.untilJoined(talk.roomId, [clawd.userId]);
      const state: AgentWorld["state"] = (wanted = () => true, deadlineMs = PATIENCE_MS) =>
        workloads.until(namespace, DEPLOYMENT, wanted, deadlineMs);
      const agent = resources.use(new EchoingAgent(clawd, talk.roomId, alice.userId, state));
      const scale = (replicas: number) => workloads.scaleTarget(namespace, DEPLOYMENT, replicas);
      const parts = { alice, operator, operatorId, talk, state, agent, clawd, testbed, scale };
      return new AgentWorld(parts, environment, resources.move());
    } catch (error) {
      await operator.kill();
      throw error;
    }
  }

  /** Turns the agent off as an administrator. The operator reports that where the agent was turned on. */
  async putToSleep({ seen } = this.talk): Promise<void> {
    const { replicas } = await this.state();
    if (replicas === 0) return;
    const before = seen.events.length;
    await this.#scale(0);
    await this.state(({ current }) => current === 0);
    await seen.first(
      "news of the change",
      (event) => seen.events.indexOf(event) >= before && /was scaled from 1 to 0|scaled it to 0/.test(textOf(event)),
      PATIENCE_MS,
    );
  }

  async killAndRestart(): Promise<void> {
    await this.operator.kill();
    this.kills += 1;
    this.operator = await OperatorProcess.start({ environment: this.#environment });
  }

  /** Creates a room of Alice, her agent, the operator, and a user whom the operator doesn't obey. */
  async withStranger(): Promise<{ readonly talk: Conversation; readonly stranger: Person }> {
    const stranger = await this.#testbed.person("mallory");
    const invite = [this.agentId, stranger.userId];
    const talk = await Conversation.begin(this.alice, this.operatorId, { invite });
    for (const person of [this.#clawd, stranger]) await person.join(talk.roomId);
    await this.alice.untilJoined(talk.roomId, invite);
    await stranger.untilJoined(talk.roomId, [this.operatorId, this.agentId]);
    return { talk, stranger };
  }

  /** Alice writes in a room without the agent. The operator answers that this is not a command. */
  async alone(text: string): Promise<void> {
    const talk = await Conversation.begin(this.alice, this.operatorId);
    const { answer } = await talk.ask(text);
    assert.match(textOf(answer), /^Unknown command: /);
  }

  /** Waits until the agent has answered. */
  async answered(text: string): Promise<void> {
    this.#agent.throwIfFailed();
    await this.talk.seen.first(
      `answer of the agent to ${text}`,
      (event) => textOf(event) === `echo: ${text}`,
      PATIENCE_MS,
    );
  }

  /** Waits for a message of the operator, unprompted or about an event, including edits. */
  said(
    what: string,
    isMeant: (event: SeenEvent) => boolean,
    about: string | undefined,
    deadlineMs = PATIENCE_MS,
  ): Promise<SeenEvent> {
    const { events } = this.talk.seen;
    const isAbout = (event: SeenEvent): boolean => {
      const original = events.find(({ eventId }) => eventId === editedBy(event)) ?? event;
      return repliesTo(original) === about;
    };
    return this.talk.seen.first(
      what,
      (event) => event.sender === this.operatorId && isAbout(event) && isMeant(event),
      deadlineMs,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.operator.kill();
    await this.#resources.disposeAsync();
  }
}

/** The agent's program. It answers each message of its user once, as soon as its pod is ready. */
class EchoingAgent implements AsyncDisposable {
  readonly #ending = Promise.withResolvers<void>();
  readonly #running: Promise<void>;
  #hasEnded = false;
  #failure: unknown;

  constructor(agent: Person, roomId: string, userId: string, state: AgentWorld["state"]) {
    this.#running = this.#run(agent, roomId, userId, state).catch((error) => void (this.#failure = error));
  }

  async #run(agent: Person, roomId: string, userId: string, state: AgentWorld["state"]): Promise<void> {
    using watch = agent.watch(roomId);
    const isNew = ({ sender, content }: SeenEvent, answered: ReadonlySet<string>, eventId: string): boolean =>
      sender === userId && content["msgtype"] === "m.text" && !answered.has(eventId);
    for (const answered = new Set<string>(); !this.#hasEnded;) {
      const next = watch.first("text", (event) => isNew(event, answered, event.eventId), TEST_MS);
      const text = await Promise.race([next, this.#ending.promise]);
      if (text === undefined) return void next.catch(() => "nobody waits for it any more");
      answered.add(text.eventId);
      await state(({ ready }) => ready > 0 || this.#hasEnded, TEST_MS);
      if (!this.#hasEnded) await agent.sendText(roomId, `echo: ${textOf(text)}`);
    }
  }

  throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#hasEnded = true;
    this.#ending.resolve();
    await this.#running;
  }
}
