/**
 * The workers of all targets. Distributes each command to its targets.
 *
 * @module
 */

import { targetGone } from "../commands/mod.ts";
import type { Agents } from "./agents.ts";
import type { Refusal } from "./audit.ts";
import type { TargetPolicy } from "./decision.ts";
import type { Authorizer } from "./authorizer.ts";
import type { Chat, Journal } from "./ports.ts";
import type { AgentRoomActivity, InboxEvent } from "../session/mod.ts";
import type { Config, Target } from "../config/mod.ts";
import type { SendQueue } from "./send_queue.ts";
import { ageOf } from "./message.ts";
import { StatusMessages } from "./status_messages.ts";
import { type TargetCommand, type TargetStep, workloadKey } from "./target_command.ts";
import { type TargetDocumentStore, TargetStates } from "./target_state.ts";
import { TargetWorker, type TargetWorkerOptions } from "./target_worker.ts";

export interface TargetWorkersOptions
  extends Omit<TargetWorkerOptions, "states" | "messages" | "authorize" | "drain" | "policy" | "upTimes"> {
  readonly chat: Pick<Chat, "room">;
  readonly agents: Agents;
  readonly journal: Pick<Journal, "newEvents" | "saveCommand" | "queueAnswer" | "settle">;
  readonly targetDocument: TargetDocumentStore;
  /** Authorizes commands again right before they are carried out. */
  readonly authorizer: Pick<Authorizer, "authorize">;
  readonly sendQueue: Pick<SendQueue, "drain">;
  readonly config: Omit<TargetPolicy, "agents"> & Pick<Config, "echo" | "schedule" | "targets">;
}

export class TargetWorkers {
  readonly #options: TargetWorkersOptions;
  readonly #states: TargetStates;
  readonly #messages: StatusMessages;
  readonly #workers: ReadonlyMap<string, TargetWorker>;

  constructor(options: TargetWorkersOptions) {
    const { chat, agents, journal, targetDocument, authorizer, sendQueue, config } = options;
    const { targets } = config;
    const states = new TargetStates(targetDocument, targets);
    const messages = new StatusMessages({
      chat,
      agents,
      journal,
      states,
      targets,
      isEchoed: config.echo === "message",
    });
    const each: Omit<TargetWorkerOptions, "policy" | "upTimes"> = {
      ...options,
      ...{ states, messages },
      authorize: (event, signal) => refusalOf(authorizer, event, signal),
      drain: () => sendQueue.drain(),
    };
    this.#options = options;
    this.#states = states;
    this.#messages = messages;
    this.#workers = new Map(targets.map((target) => {
      const own = agents.of(target.alias);
      const policy = { ...config, agents: own, idleStopMs: own.length > 0 ? config.idleStopMs : undefined };
      const upTimes = config.schedule.filter(({ alias }) => alias === target.alias);
      return [workloadKey(target), new TargetWorker(target, { ...each, policy, upTimes })];
    }));
  }

  /** Starts the workers. */
  start(): void {
    for (const worker of this.#workers.values()) worker.start();
  }

  /**
   * Carries a command out at all of its targets and settles its event.
   *
   * @returns resolves when the event is settled or the operator stops; never rejects
   */
  async submit(command: TargetCommand): Promise<void> {
    const { steps } = command;
    const { targets } = this.#options.config;
    const placed = [...steps.values()].map((step) => ({
      step,
      target: targets.find((each) => isTargetOf(step, each)),
    }));
    // Keyed by workload from here on, because aliases may have been swapped since the command was given.
    steps.clear();
    for (const { step, target } of placed) {
      if (target === undefined) steps.set(step.workload ?? step.target, step);
      else steps.set(workloadKey(target), { ...step, target: target.alias, workload: workloadKey(target) });
    }
    const open = placed.filter(({ step }) => step.end === undefined);
    await Promise.all(
      open.map(({ step, target }) =>
        target === undefined ? this.#endGone(command, step) : this.#workers.get(workloadKey(target))?.submit(command)
      ),
    );
  }

  /** Passes activity in rooms of agents to the workers. */
  agentRoomsActive({ messages, typing }: AgentRoomActivity): void {
    const { agents, clock, config: { targets } } = this.#options;
    const nowMs = clock.now();
    for (const target of targets) {
      const worker = this.#workers.get(workloadKey(target));
      const own = agents.of(target.alias);
      for (const message of messages) {
        const { roomId, sender } = message;
        const atMs = nowMs - ageOf(message, nowMs);
        if (own.includes(sender)) worker?.recordActivity({ agentAtMs: atMs });
        else if (!agents.has(sender) && agents.isIn(roomId, target.alias)) {
          worker?.recordActivity({ userAtMs: atMs, roomId });
        }
      }
      for (const [roomId, users] of typing) worker?.recordTyping(roomId, users.filter((user) => own.includes(user)));
    }
  }

  /** Whether the target is off as far as we know, and a message to its agent would turn it on. */
  isAsleep(alias: string): boolean {
    const target = this.#options.config.targets.find((each) => each.alias === alias);
    if (target === undefined) return false;
    const { expectedReplicas, stopped } = this.#states.of(workloadKey(target));
    return expectedReplicas === 0 && stopped?.isHeld !== true;
  }

  /** Queues a message that shows that the command was seen, unless one has been queued before. */
  acknowledge(command: TargetCommand): void {
    const { transaction, sendQueue } = this.#options;
    transaction(() => {
      this.#messages.acknowledge(command);
      this.#states.save();
    });
    sendQueue.drain();
  }

  /** Ends a command at a target that the configuration no longer names. */
  #endGone(command: TargetCommand, step: TargetStep): void {
    const { transaction, audit, sendQueue } = this.#options;
    const { event, word, typed, steps } = command;
    const { target: alias, workload = alias } = step;
    const isSilent = word === "wake";
    steps.set(workload, {
      ...step,
      end: { outcome: "failed", ...isSilent ? {} : { text: targetGone(typed, alias) } },
    });
    transaction(() => {
      this.#messages.settle(command, undefined);
      this.#states.save();
    });
    const unread = { before: undefined, after: undefined };
    audit.commanded(event, { command: word, target: alias, outcome: "failed", ...unread, ms: 0 });
    sendQueue.drain();
  }
}

/**
 * Returns why a command may no longer be carried out. Its authorization may have changed since it arrived, or since a
 * restart.
 */
async function refusalOf(
  authorizer: Pick<Authorizer, "authorize">,
  event: InboxEvent,
  signal: AbortSignal,
): Promise<Refusal | undefined> {
  const authorization = await authorizer.authorize(event, signal);
  if (authorization.kind === "undecryptable") return "unreadable";
  return authorization.verdict.trusted ? undefined : authorization.verdict.reason;
}

/** Whether the target is the workload that a step was meant for, whatever its alias is now. */
function isTargetOf({ target: alias, workload }: TargetStep, target: Target): boolean {
  return workload === undefined ? target.alias === alias : workloadKey(target) === workload;
}
