/**
 * The operator alongside Argo CD and Flux. Both are imitated by server-side apply with another field manager, as they
 * do it. With the settings in deploy/gitops they don't change the replica count. Without them, the operator reports who
 * has undone a command.
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import { loadYaml } from "@kubernetes/client-node";
import { customResources, extendedRules, startTestbed } from "../../testbed/mod.ts";
import { OperatorProcess } from "../operator_process.ts";
import { bodyOf, Conversation } from "./conversation.ts";
import { Manifests } from "./manifests.ts";

const namespace = "clawdbot";
const name = "clawdbot";

/** A tool that applies the contents of a repository. */
interface Tool {
  readonly file: string;
  readonly crd: "argocd" | "flux";
  /** Its field manager. */
  readonly manager: string;
  /** Fields of the target that the object in deploy/gitops makes the tool ignore, as JSON pointers. */
  // deno-lint-ignore no-explicit-any -- a custom resource
  ignored(object: any): string[];
}

const tools: readonly Tool[] = [
  {
    file: "argocd-application.yaml",
    crd: "argocd",
    manager: "argocd-controller",
    ignored: ({ spec }) => {
      // Without this option, only the comparison ignores the fields, and a sync still sets them.
      assert.ok(spec.syncPolicy.syncOptions.includes("RespectIgnoreDifferences=true"));
      // deno-lint-ignore no-explicit-any -- as above
      return spec.ignoreDifferences.filter((rule: any) =>
        rule.group === "apps" && rule.kind === "Deployment" && rule.name === name
      )
        // deno-lint-ignore no-explicit-any -- as above
        .flatMap((rule: any) => rule.jsonPointers);
    },
  },
  {
    file: "flux-kustomization.yaml",
    crd: "flux",
    manager: "kustomize-controller",
    ignored: ({ spec }) =>
      // deno-lint-ignore no-explicit-any -- as above
      spec.ignore.filter(({ target }: any) =>
        new RegExp(`^(${target.kind})$`).test("Deployment") && target.name === name
      )
        // deno-lint-ignore no-explicit-any -- as above
        .flatMap((rule: any) => rule.paths),
  },
];

Deno.test("beside Argo CD and Flux", async (t) => {
  await using testbed = await startTestbed();
  const { homeserver, cluster, workloads, serviceAccounts, folder } = testbed;
  const manifests = await Manifests.copy(folder, cluster.kubeconfig);
  const alice = await testbed.person("alice");
  const password = crypto.randomUUID();
  const { userId, localpart } = await homeserver.register("toggle-gitops", password);
  const account = await serviceAccounts.create(namespace, "openclaw-toggle", extendedRules(name));

  await t.step("their objects are valid", async () => {
    for (const { file, crd } of tools) {
      await manifests.define(await customResources(crd));
      await manifests.try("create", "namespace", crd === "argocd" ? "argocd" : "flux-system");
      const check = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename"];
      await manifests.kubectl(...check, join("gitops", file));
    }
  });

  const target = async (replicas: number | undefined, image = "registry.k8s.io/pause:3.10") => {
    const labels = { app: name };
    const file = join(folder, "target.json");
    const spec = {
      ...replicas === undefined ? {} : { replicas },
      selector: { matchLabels: labels },
      template: { metadata: { labels }, spec: { containers: [{ name: "agent", image }] } },
    };
    const object = { apiVersion: "apps/v1", kind: "Deployment", metadata: { namespace, name }, spec };
    await Deno.writeTextFile(file, JSON.stringify(object));
    return file;
  };
  /** One sync of the repository. For ignored pointers, the live values replace its own. */
  const sync = async (
    manager: string,
    replicas: number | undefined,
    { ignored = [], image }: { ignored?: readonly string[]; image?: string } = {},
  ) => {
    const live = await workloads.targetState(namespace, name).catch(() => undefined);
    const count = ignored.includes("/spec/replicas") ? live?.replicas ?? replicas : replicas;
    const apply = ["apply", "--server-side", "--force-conflicts", `--field-manager=${manager}`, "--filename"];
    await manifests.kubectl(...apply, await target(count, image));
  };
  const count = async (replicas: number) => {
    await workloads.until(namespace, name, (state) => state.replicas === replicas, 10_000);
  };

  await t.step("a manifest that loses its replicas sets the count to 1, while nobody else has set it", async () => {
    await sync("argocd-controller", 0);
    await count(0);
    await sync("argocd-controller", undefined);
    await count(1);
    await sync("argocd-controller", 0);
    await count(0);
  });
  await using operator = await OperatorProcess.start({
    environment: {
      MATRIX_HOMESERVER: homeserver.url,
      MATRIX_USER: localpart,
      MATRIX_PASSWORD: password,
      ALLOWED_USERS: alice.userId,
      CRYPTO_STORE_PATH: join(folder, "store"),
      KUBECONFIG: account.kubeconfig,
    },
    logFile: join(folder, "operator.log"),
  });
  const talk = await Conversation.begin(alice, userId);
  const said = async (command: string, form: RegExp) => {
    const eventId = await talk.send(command);
    return bodyOf(
      await talk.seen.first(
        `${form} about ${command}`,
        (event) => form.test(bodyOf(event)) && event.eventId !== eventId,
        15_000,
      ),
    );
  };

  for (const { manager, file, ignored } of tools) {
    const pointers = ignored(loadYaml(await Deno.readTextFile(join(manifests.folder, "gitops", file))));
    await t.step(`${manager}, configured to ignore the count`, async () => {
      assert.deepEqual(pointers, ["/spec/replicas"]);
      const before = talk.seen.events.length;
      for (const [command, replicas] of [["start", 1], ["stop", 0]] as const) {
        await talk.ask(command);
        await count(replicas);
        // The repository has the other count, and also another change, so that there is a sync at all.
        await sync(manager, 1 - replicas, { ignored: pointers, image: `registry.k8s.io/pause:3.${replicas + 8}` });
        const { generation, replicas: now } = await workloads.until(namespace, name, () => true, 10_000);
        assert.equal(now, replicas, `generation ${generation}`);
      }
      const { answer } = await talk.ask("status");
      assert.match(bodyOf(answer), /is off/);
      assert.ok(
        talk.seen.events.slice(before).every((event) => !bodyOf(event).includes(manager)),
        "nothing was undone",
      );
    });
    await t.step(`${manager}, not configured: the operator names it, and what to do`, async () => {
      const begun = said("start", new RegExp(`somebody else \\(\`?${manager}\`?\\) scaled it to 0`));
      await count(1);
      await sync(manager, 0);
      const words = await begun;
      console.log(words);
      assert.match(words, /spec\.replicas/);
      await count(0);
    });
  }

  await t.step("a manifest without replicas keeps the count that the operator has set", async () => {
    await talk.ask("start");
    await count(1);
    await talk.ask("stop");
    await count(0);
    for (const { manager } of tools) await sync(manager, undefined);
    await count(0);
    await talk.ask("start");
    await count(1);
    for (const { manager } of tools) await sync(manager, undefined, { image: "registry.k8s.io/pause:3.11" });
    await count(1);
  });
  assert.equal(await operator.stop(), 0);
});
