import assert from "node:assert/strict";
import { Homeserver } from "../../sandbox/homeserver/mod.ts";
import { KubernetesSandbox } from "../../sandbox/kubernetes/mod.ts";
import { startTestbed } from "../../testbed/mod.ts";
import { homeserverContract, runHomeserverContract } from "../contract/homeserver.ts";
import { refreshableMs, SandboxClock, sandboxHomeserver } from "../contract/homeserver_sandbox.ts";
import { runKubernetesContract } from "../contract/kubernetes.ts";
import { realUnderTest } from "../contract/kubernetes_real.ts";
import { sandboxUnderTest } from "../contract/kubernetes_sandbox.ts";
import { type ContractRow, sideBySide } from "../contract/results.ts";
import { Results } from "./results.ts";

Deno.test("the sandbox and the real servers keep the same contract", async (t) => {
  // That is waited for.
  const shortMs = 2_000;
  await using testbed = await startTestbed(undefined, { refreshableMs: shortMs });

  await t.step("homeserver", async () => {
    const { url, serverName, register } = testbed.homeserver;
    const real = {
      url,
      serverName,
      refreshableMs: shortMs,
      letPass: (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms)),
      register: async (localpart: string, password: string) => {
        await register.call(testbed.homeserver, localpart, password);
      },
    };
    const clock = new SandboxClock();
    await using homeserver = new Homeserver({ refreshableMs, now: clock.now });
    await using results = new Results("the contract", testbed.homeserver.kind);
    const found = await runHomeserverContract(testbed.homeserver.kind, real);
    for (const [index, { case: name, why }] of found.entries()) {
      const { synapseOnly } = homeserverContract[index] ?? {};
      if (why === "" || !results.isElsewhere({ name, synapseOnly })) results.add(name, why === "");
    }
    judge([...await runHomeserverContract("sandbox", sandboxHomeserver(homeserver, clock)), ...found]);
  });

  await t.step("Kubernetes API", async () => {
    await using sandbox = await KubernetesSandbox.start({
      startMs: 60,
      stopMs: 30,
      observeMs: 5,
      runMs: 40,
      backOffMs: 80,
    });
    await using real = await realUnderTest(testbed.cluster.kubeconfig);
    judge([...await runKubernetesContract(sandboxUnderTest(sandbox)), ...await runKubernetesContract(real)]);
  });
});

function judge(rows: readonly ContractRow[]): void {
  console.log(`\n${sideBySide(rows)}\n`);
  // Synapse-specific rows must hold on the sandbox, which imitates Synapse, and on Synapse.
  const excused = ({ where, optional }: ContractRow) => optional && where === "dendrite";
  assert.deepEqual(rows.filter((row) => row.why !== "" && !excused(row)), []);
}
