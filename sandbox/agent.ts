/**
 * An agent: an account whose program runs in a Deployment. While a pod is ready it answers messages, including those
 * that were sent before.
 *
 * @module
 */

import type { KubernetesSandbox } from "./kubernetes/mod.ts";
import type { Message, Person } from "./person/mod.ts";

export interface AgentOptions {
  /** Its account. Here it stays logged in while its program doesn't run, which makes no difference to others. */
  readonly person: Person;
  /** The cluster that runs its program. Must have no other workload. */
  readonly kubernetes: KubernetesSandbox;
  /** User id of the operator. The agent ignores messages to and from it. */
  readonly operatorId: string;
  /** How long it types before an answer, in milliseconds. */
  readonly typesForMs?: number;
}

export class Agent implements AsyncDisposable {
  readonly #options: AgentOptions;
  readonly #unanswered: Message[] = [];
  readonly #watching: DisposableStack = new DisposableStack();
  #working: Promise<void> = Promise.resolve();
  #hasEnded = false;

  constructor(options: AgentOptions) {
    this.#options = options;
    const { person, kubernetes } = options;
    this.#watching.use(person.listen((message) => {
      if (this.#isForUs(message)) this.#unanswered.push(message);
      this.#work();
    }));
    this.#watching.use(kubernetes.onChange(() => this.#work()));
  }

  get userId(): string {
    return this.#options.person.userId;
  }

  /** Accepts an invitation to a room. */
  async join(roomId: string): Promise<void> {
    const { person } = this.#options;
    await person.until(() => person.invitations.has(roomId) || undefined);
    await person.join(roomId);
  }

  #isForUs({ sender, kind, body, earlier }: Message): boolean {
    const { person, operatorId } = this.#options;
    const name = operatorId.slice(1, operatorId.indexOf(":"));
    const isToOperator = body.toLowerCase().replace("@", "").startsWith(name);
    return kind === "text" && earlier.length === 0 && ![person.userId, operatorId].includes(sender) && !isToOperator;
  }

  #work(): void {
    this.#working = this.#working.then(() => this.#answerAll());
    // The failure is reported by asyncDispose; nobody awaits this before.
    this.#working.catch(() => undefined);
  }

  async #answerAll(): Promise<void> {
    const { person, kubernetes, typesForMs = 600 } = this.#options;
    const isReady = () => !this.#hasEnded && kubernetes.workloads().some(({ ready }) => ready > 0);
    while (isReady()) {
      const next = this.#unanswered.shift();
      if (next === undefined) return;
      await person.type(next.roomId, true);
      await new Promise((resolve) => setTimeout(resolve, typesForMs));
      await person.say(next.roomId, `You said: ${next.body}`);
      await person.type(next.roomId, false);
    }
  }

  /**
   * Stops the agent.
   *
   * @throws Error if it failed to answer
   */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#hasEnded = true;
    this.#watching.dispose();
    await this.#working;
  }
}
