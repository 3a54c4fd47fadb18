/** What accompanies a release: the list of what is in the executable, and the notes. */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { notesOf } from "../../build/notes.ts";
import { components } from "../../build/sbom.ts";

const lock: { npm: Record<string, { integrity: string }> } = JSON.parse(
  await Deno.readTextFile(new URL("../../deno.lock", import.meta.url)),
);

Deno.test("components() lists the runtime and every package that main.ts imports, as it is locked", async () => {
  const all = await components();
  assert.deepEqual(all[0], {
    type: "platform",
    name: "deno",
    version: Deno.version.deno,
    purl: `pkg:github/denoland/deno@v${Deno.version.deno}`,
  });
  const names = all.map(({ name }) => name);
  const imported = [
    "@kubernetes/client-node",
    "@logtape/logtape",
    "@matrix-org/matrix-sdk-crypto-wasm",
  ];
  // By way of others: client-node's own.
  for (const name of [...imported, "prom-client", "jsonpath-plus"]) assert.ok(names.includes(name), name);
  for (const name of ["fast-check", "fake-indexeddb"]) assert.ok(!names.includes(name), `${name} is for tests only`);
  for (const { name, version, purl, hashes } of all.slice(1)) {
    const key = Object.keys(lock.npm).find((id) => id === `${name}@${version}` || id.startsWith(`${name}@${version}_`));
    const integrity = lock.npm[key ?? ""]?.integrity ?? "";
    assert.equal(`sha512-${Uint8Array.fromHex(hashes?.[0].content ?? "").toBase64()}`, integrity, name);
    assert.match(purl, /^pkg:npm\/(%40[\w-]+\/)?[\w.-]+@\d/);
  }
  assert.deepEqual(names.slice(1), names.slice(1).toSorted());
});

Deno.test("deno task sbom prints a CycloneDX document", async () => {
  const cwd = fileURLToPath(new URL("../../", import.meta.url));
  const { success, stdout } = await new Deno.Command(Deno.execPath(), { args: ["run", "-A", "build/sbom.ts"], cwd })
    .output();
  assert.ok(success);
  const document = JSON.parse(new TextDecoder().decode(stdout));
  assert.deepEqual([document.bomFormat, document.specVersion], ["CycloneDX", "1.6"]);
  assert.equal(document.metadata.component.name, "openclaw-toggle");
  assert.ok(document.components.length > 5);
});

Deno.test("notesOf() finds a version's part of the changelog, and nothing else", () => {
  const changelog = "# Changelog\n\n## [Unreleased]\n\n- new\n\n## [1.2.0] - 2026-11-27\n\n### Added\n\n- this\n\n" +
    "## [1.1.0] - 2026-10-01\n\n- old\n\n[1.2.0]: https://example.org/1.2.0\n";
  assert.equal(notesOf(changelog, "1.2.0"), "### Added\n\n- this");
  assert.equal(notesOf(changelog, "1.1.0"), "- old");
  assert.throws(() => notesOf(changelog, "1.2"), /Cannot find 1\.2 in CHANGELOG/);
  assert.throws(() => notesOf(changelog, "1.3.0"), /it needs a part "## \[1\.3\.0\] - date"/);
});
