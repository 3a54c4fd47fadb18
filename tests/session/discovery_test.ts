import assert from "node:assert/strict";
import { ConfigError, TransientError } from "../../lib/errors.ts";
import { askWellKnown, findHomeserver } from "../../lib/session/discovery.ts";
import { authority, certificate, privateKey } from "../certificates.ts";
import { never } from "./world.ts";

function redirect(location: string): Response {
  return new Response(null, { status: 302, headers: { location } });
}

Deno.test("askWellKnown() reads what a server name's .well-known says, also elsewhere", async (t) => {
  const named = { "m.homeserver": { base_url: "https://matrix.example.org/" } };
  const rows: [
    name: string,
    answer: Record<string, () => Response>,
    result: string | typeof ConfigError | typeof TransientError,
    words?: RegExp,
  ][] = [
    ["a base URL", { "/": () => Response.json(named) }, "https://matrix.example.org"],
    [
      "after redirects",
      { "/": () => redirect("/b"), "/b": () => redirect("c"), "/c": () => Response.json(named) },
      "https://matrix.example.org",
    ],
    ["no file", {}, "https://example.org"],
    ["a circle", { "/": () => redirect("/") }, TransientError, /redirects more than 5 times$/],
    ["no base URL", { "/": () => Response.json({}) }, ConfigError, /has no base_url of a homeserver/],
    ["a base URL of another kind", {
      "/": () => Response.json({ "m.homeserver": { base_url: "file:///etc" } }),
    }, ConfigError],
    ...["?a=b", "#c", "/path?"].map((tail): [string, Record<string, () => Response>, typeof ConfigError] => [
      `a base URL that nothing can be put behind, with ${tail}`,
      { "/": () => Response.json({ "m.homeserver": { base_url: `https://matrix.example.org${tail}` } }) },
      ConfigError,
    ]),
    ["a base URL with a password", {
      "/": () => Response.json({ "m.homeserver": { base_url: "https://user:pw@matrix.example.org" } }),
    }, ConfigError],
    ["a web page", { "/": () => new Response("<html>") }, TransientError, /answers 200, which is not JSON$/],
    ["a refusal by a proxy", { "/": () => new Response("", { status: 403 }) }, TransientError, /answers 403$/],
    ["502", { "/": () => new Response("", { status: 502 }) }, TransientError, /answers 502$/],
  ];
  for (const [name, answers, result, words] of rows) {
    await t.step(name, async () => {
      await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, ({ url }) => {
        const path = new URL(url).pathname.replace("/.well-known/matrix/client", "/").replace(
          "/.well-known/matrix",
          "",
        );
        return answers[path]?.() ?? new Response("", { status: 404 });
      });
      const asked = askWellKnown("example.org", never, `http://127.0.0.1:${server.addr.port}`);
      if (typeof result === "string") assert.equal(await asked, result);
      else await assert.rejects(asked, (error) => error instanceof result && (words?.test(error.message) ?? true));
    });
  }
});

Deno.test("askWellKnown() follows no redirect from https to http, wherever in a row it stands", async () => {
  const file = await Deno.makeTempFile();
  await Deno.writeTextFile(file, authority);
  const asked: string[] = [];
  await using clear = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, ({ url }) => {
    asked.push(url);
    return Response.json({ "m.homeserver": { base_url: "https://evil.example" } });
  });
  await using server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, cert: certificate, key: privateKey, onListen: () => {} },
    ({ url }) => redirect(url.endsWith("/client") ? "/second" : `http://localhost:${clear.addr.port}/`),
  );
  const program = new URL("discovery_program.ts", import.meta.url).pathname;
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "-A", program, `https://localhost:${server.addr.port}`],
    env: { DENO_CERT: file },
    stderr: "inherit",
  }).output();
  assert.match(new TextDecoder().decode(stdout), /redirects to http:\/\/localhost:\d+, which is without TLS$/m);
  assert.deepEqual(asked, []);
  await Deno.remove(file);
});

Deno.test("findHomeserver() takes what .well-known names only where a homeserver answers", async (t) => {
  await using folder = { path: await Deno.makeTempDir(), [Symbol.asyncDispose]: () => remove(folder.path) };
  const file = `${folder.path}/authority.pem`;
  await Deno.writeTextFile(file, authority);
  let baseUrl = "";
  await using wellKnown = Deno.serve(
    { hostname: "127.0.0.1", port: 0, cert: certificate, key: privateKey, onListen: () => {} },
    () => Response.json({ "m.homeserver": { base_url: baseUrl } }),
  );
  await using homeserver = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, ({ url }) => {
    const { pathname } = new URL(url);
    if (pathname === "/_matrix/client/versions") return Response.json({ versions: ["v1.16"] });
    return Response.json({ errcode: "M_UNRECOGNIZED" }, { status: 404 });
  });
  const name = `localhost:${wellKnown.addr.port}`;
  const there = `http://127.0.0.1:${homeserver.addr.port}`;
  const elsewhere = `${there}/elsewhere`;
  const rows: [what: string, baseUrl: string, known: string[], printed: RegExp][] = [
    ["one answers", there, [], new RegExp(`^${there}$`, "m")],
    ["nobody answers", elsewhere, [], /^Cannot GET .*\/elsewhere\/_matrix\/client\/versions: 404 M_UNRECOGNIZED$/m],
    ["nobody answers, and we are logged in at another", elsewhere, ["https://h.example"], /^https:\/\/h\.example$/m],
  ];
  const program = new URL("find_program.ts", import.meta.url).pathname;
  for (const [what, named, known, printed] of rows) {
    await t.step(what, async () => {
      baseUrl = named;
      const { stdout } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "--quiet", "-A", program, name, ...known],
        env: { DENO_CERT: file },
        stderr: "inherit",
      }).output();
      assert.match(new TextDecoder().decode(stdout), printed);
    });
  }
});

async function remove(folder: string): Promise<void> {
  await Deno.remove(folder, { recursive: true });
}

Deno.test("findHomeserver() returns a URL unchanged", async () => {
  assert.equal(await findHomeserver({ kind: "url", url: "https://h.example/" }, never), "https://h.example");
});

Deno.test("findHomeserver() stays where we are logged in while .well-known cannot be asked", async () => {
  const name = "nowhere.invalid";
  assert.equal(await findHomeserver({ kind: "name", name }, never, "https://h.example"), "https://h.example");
  await assert.rejects(findHomeserver({ kind: "name", name }, never), TransientError);
});
