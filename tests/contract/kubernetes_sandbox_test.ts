import { KubernetesSandbox } from "../../sandbox/kubernetes/mod.ts";
import { kubernetesCases, runKubernetesCase } from "./kubernetes.ts";
import { sandboxUnderTest } from "./kubernetes_sandbox.ts";

Deno.test("sandbox/kubernetes keeps the contract", async (t) => {
  await using sandbox = await KubernetesSandbox.start({
    startMs: 60,
    stopMs: 30,
    observeMs: 5,
    runMs: 40,
    backOffMs: 80,
  });
  const cluster = sandboxUnderTest(sandbox);
  for (const each of kubernetesCases) {
    await t.step(each.name, () => runKubernetesCase(cluster, each));
  }
});
