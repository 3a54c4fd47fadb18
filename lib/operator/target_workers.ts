/**
 * The workers of all targets: hands each command to those of the targets that it is for.
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

/** What all workers together use. */
export interface TargetWorkersOptions
  extends Omit<TargetWorkerOptions, "states" | "messages" | "authorize" | "drain" | "policy" | "upTimes"> {
  /** Tells who is in a room. */
  readonly chat: Pick<Chat, "room">;
  /** Where agents are. */
  readonly agents: Agents;
  /** Holds commands and what is to be sent. */
  readonly journal: Pick<Journal, "arrived" | "begin" | "say" | "settle">;
  /** Keeps what lasts of the targets. */
  readonly targetDocument: TargetDocumentStore;
  /** Judges commands again right before they are acted on. */
  readonly authorizer: Pick<Authorizer, "authorize">;
  /** Sends answers. */
  readonly sendQueue: Pick<SendQueue, "drain">;
  /** The configuration's part. */
  readonly config: Omit<TargetPolicy, "agents"> & Pick<Config, "echo" | "schedule" | "targets">;
}

/** The workers of all targets. */
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
      authorize: (inbox, signal) => refusalOf(authorizer, inbox, signal),
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

  /** Goes on with what an earlier run has left. */
  start(): void {
    for (const worker of this.#workers.values()) worker.start();
  }

  /**
   * Carries a command out at all of its targets and settles its event.
   *
   * @returns resolves when the event is settled, or the operator is told to end; never rejects
   */
  async submit(command: TargetCommand): Promise<void> {
    const { steps } = command;
    const { targets } = this.#options.config;
    const placed = [...steps.values()].map((step) => ({ step, target: targets.find((each) => isMeant(step, each)) }));
    // By workload from now on: names may have been exchanged since the command was given.
    steps.clear();
    for (const { step, target } of placed) {
      if (target === undefined) steps.set(step.workload ?? step.target, step);
      else steps.set(workloadKey(target), { ...step, target: target.alias, workload: workloadKey(target) });
    }
    const open = placed.filter(({ step }) => step.end === undefined);
    await Promise.all(
      open.map(({ step, target }) =>
        target === undefined ? this.#gone(command, step) : this.#workers.get(workloadKey(target))?.submit(command)
      ),
    );
  }

  /** Something was written in rooms where agents are. */
  agentRoomsActive({ messages, typing }: AgentRoomActivity): void {
    const { chat, agents, clock, config: { targets } } = this.#options;
    const nowMs = clock.now();
    for (const target of targets) {
      const worker = this.#workers.get(workloadKey(target));
      const own = agents.of(target.alias);
      const isTheirs = (roomId: string): boolean => {
        const room = chat.room(roomId);
        return own.some((agent) => room?.isJoined(agent));
      };
      for (const message of messages) {
        const { roomId, sender } = message;
        const atMs = nowMs - ageOf(message, nowMs);
        if (own.includes(sender)) worker?.lived({ agentAtMs: atMs });
        else if (!agents.has(sender) && isTheirs(roomId)) worker?.lived({ userAtMs: atMs, roomId });
      }
      for (const [roomId, users] of typing) worker?.typing(roomId, users.filter((user) => own.includes(user)));
    }
  }

  /** A target is off, as far as we know, and a message to its agent would turn it on. */
  isAsleep(alias: string): boolean {
    const target = this.#options.config.targets.find((each) => each.alias === alias);
    if (target === undefined) return false;
    const { expectedReplicas, stopped } = this.#states.of(workloadKey(target));
    return expectedReplicas === 0 && stopped?.isHeld !== true;
  }

  /** Has the command's message show that the command was seen, if it doesn't say anything yet. */
  acknowledge(command: TargetCommand): void {
    const { transaction, sendQueue } = this.#options;
    transaction(() => {
      this.#messages.acknowledge(command);
      this.#states.save();
    });
    sendQueue.drain();
  }

  /** The configuration no longer names the target. */
  #gone(command: TargetCommand, step: TargetStep): void {
    const { transaction, audit, sendQueue } = this.#options;
    const { inbox, word, typed, steps } = command;
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
    audit.commanded(inbox, { command: word, target: alias, outcome: "failed", ...unread, ms: 0 });
    sendQueue.drain();
  }
}

/** Why a command isn't to be acted on any more: what it rests on may have changed since it came, or since a restart. */
async function refusalOf(
  authorizer: Pick<Authorizer, "authorize">,
  inbox: InboxEvent,
  signal: AbortSignal,
): Promise<Refusal | undefined> {
  const authorization = await authorizer.authorize(inbox, signal);
  if (authorization.kind === "undecryptable") return "unreadable";
  return authorization.verdict.trusted ? undefined : authorization.verdict.reason;
}

/** The target is the workload that a step was meant for, whatever its name is by now. */
function isMeant({ target: alias, workload }: TargetStep, target: Target): boolean {
  return workload === undefined ? target.alias === alias : workloadKey(target) === workload;
}
