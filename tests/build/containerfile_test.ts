import assert from "node:assert/strict";
import project from "../../deno.json" with { type: "json" };
import { compileArguments, permissions } from "../../build/compile.ts";
import { readContainerfile } from "../../build/containerfile.ts";

const text = await Deno.readTextFile(new URL("../../Containerfile", import.meta.url));

Deno.test("the Containerfile makes what SPEC 7a asks for", () => {
  const { base, copies, user, folder, environment, ports, entrypoint, labels, executable } = readContainerfile(text);
  assert.match(base, /^gcr\.io\/distroless\/cc-debian13:nonroot@sha256:[0-9a-f]{64}$/);
  assert.equal(user, "1200:1200");
  assert.deepEqual(copies, [
    { from: "/image/data", to: "/data", owner: "1200:1200" },
    { from: executable, to: "/openclaw-toggle", owner: "0:0" },
  ]);
  assert.deepEqual([entrypoint, ports, folder], [["/openclaw-toggle"], [8080], "/data"]);
  assert.deepEqual(environment, {
    MALLOC_ARENA_MAX: "1",
    MALLOC_TRIM_THRESHOLD_: "65536",
    MALLOC_MMAP_THRESHOLD_: "65536",
  });
  for (const name of ["title", "description", "licenses", "version", "revision", "source"]) {
    assert.ok(labels[`org.opencontainers.image.${name}`], name);
  }
  assert.equal(labels["org.opencontainers.image.licenses"], project.license);
  assert.equal(/^ARG VERSION=(.*)$/m.exec(text)?.[1], project.version);
});

Deno.test("the build is given what .dockerignore lets through, and nothing else", async () => {
  const ignored = await Deno.readTextFile(new URL("../../.dockerignore", import.meta.url));
  const [all, ...exceptions] = ignored.trim().split("\n");
  assert.equal(all, "*");
  assert.deepEqual(exceptions.map((line) => line.slice(1)).toSorted(), readContainerfile(text).sources.toSorted());
});

Deno.test("every FROM names a digest, and the build needs no emulation", () => {
  const froms = text.match(/^FROM .*$/gm) ?? [];
  assert.equal(froms.length, 2);
  for (const from of froms) assert.match(from, /@sha256:[0-9a-f]{64}( AS build)?$/);
  assert.match(froms[0] ?? "", /^FROM --platform=\$BUILDPLATFORM /);
});

Deno.test("readContainerfile() refuses what it doesn't understand", async (t) => {
  const rows: [name: string, changed: string][] = [
    ["an unknown instruction", `${text}VOLUME /data\n`],
    ["a file from somewhere else", `${text}COPY --from=other /a /b\n`],
    ["a file of the context", `${text}COPY a /b\n`],
    ["a command in the image", `${text}RUN true\n`],
    ["a second user", `${text}USER 0:0\n`],
    ["a user by name", text.replace("USER 1200:1200", "USER nonroot")],
    ["no user", text.replace("USER 1200:1200", "")],
    ["no compile", text.replace("task compile", "task bundle")],
    ["a third stage", `${text}FROM scratch\n`],
    ["nothing", ""],
  ];
  for (const [name, changed] of rows) {
    await t.step(
      name,
      () => assert.throws(() => readContainerfile(changed), /^Error: Cannot read the Containerfile: /),
    );
  }
});

Deno.test("permissions() are those of the task start: never run, never ffi", () => {
  const flags = permissions();
  assert.deepEqual(flags, [
    ...["--no-prompt", "--allow-net", "--allow-env", "--allow-read", "--allow-write", "--allow-sys=hostname"],
  ]);
  assert.deepEqual(
    compileArguments({ output: "x" }).filter((argument) => argument.startsWith("--allow")),
    flags.slice(1),
  );
  for (const wrong of ["deno run -A main.ts", "deno run --allow-all --cached-only main.ts", "sh main.ts"]) {
    assert.throws(() => permissions(wrong), /^Error: Cannot tell permissions/);
  }
});
