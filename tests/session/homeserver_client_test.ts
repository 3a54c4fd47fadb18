import assert from "node:assert/strict";
import type { Clock } from "../../lib/async.ts";
import { RejectedError, TokenRefused, TransientError } from "../../lib/errors.ts";
import { type ClientOptions, HomeserverClient, path } from "../../lib/session/homeserver_client.ts";
import { authority, certificate, privateKey } from "../certificates.ts";

const never = new AbortController().signal;

/** Runs `use` with requests to a server that answers as `handler` says. */
async function withServer(
  handler: Deno.ServeHandler,
  use: (requests: HomeserverClient) => Promise<void>,
  options: ClientOptions = {},
): Promise<void> {
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, handler);
  using requests = new HomeserverClient(`http://127.0.0.1:${server.addr.port}/`, options);
  await use(requests);
}

function json(body: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return Response.json(body, { status, headers });
}

Deno.test("path encodes its variable parts", () => {
  assert.equal(path`/rooms/${"!a/b:x"}/join`, "/rooms/!a%2Fb%3Ax/join");
});

Deno.test("HomeserverClient.send() sends method, token, query and body", async () => {
  await withServer(async (request) =>
    json({
      method: request.method,
      url: new URL(request.url).pathname + new URL(request.url).search,
      authorization: request.headers.get("authorization"),
      body: await request.json(),
    }), async (requests) => {
    requests.accessToken = "secret";
    const { json } = await requests.send({
      method: "PUT",
      path: "/p",
      query: { a: "1 2", b: undefined },
      body: { c: 3 },
    }, never);
    assert.deepEqual(json, { method: "PUT", url: "/p?a=1+2", authorization: "Bearer secret", body: { c: 3 } });
  });
});

Deno.test("HomeserverClient.send() maps failures to error classes", async (t) => {
  const rows: [name: string, response: () => Response, check: (error: unknown) => void][] = [
    [
      "403 is a rejection with its code",
      () => json({ errcode: "M_FORBIDDEN", error: "private words" }, 403),
      (error) => {
        assert.ok(error instanceof RejectedError);
        assert.equal(error.code, "M_FORBIDDEN");
        assert.doesNotMatch(error.message, /private words/);
      },
    ],
    [
      "a redirect is told, with where it leads",
      () => json({}, 308, { location: "https://matrix.example.org/_matrix/client?secret" }),
      (error) => {
        assert.ok(error instanceof TransientError);
        assert.match(
          error.message,
          /: 308, it redirects to https:\/\/matrix\.example\.org; give the URL where that ends$/,
        );
      },
    ],
    ["401 of an unknown token is a refused token", () => json({ errcode: "M_UNKNOWN_TOKEN" }, 401), (error) => {
      assert.ok(error instanceof TokenRefused);
      assert.equal(error.soft, false);
    }],
    ["401 with soft_logout says so", () => json({ errcode: "M_UNKNOWN_TOKEN", soft_logout: true }, 401), (error) => {
      assert.ok(error instanceof TokenRefused);
      assert.equal(error.soft, true);
    }],
    ["401 of user-interactive auth is a rejection", () => json({ flows: [] }, 401), (error) => {
      assert.ok(error instanceof RejectedError);
    }],
    [
      "429 that asks for a long wait is transient, with the wait",
      () => json({}, 429, { "retry-after": "60" }),
      (error) => {
        assert.ok(error instanceof TransientError);
        assert.equal(error.retryAfterMs, 60_000);
      },
    ],
    ["the same of an older server, by retry_after_ms", () => json({ retry_after_ms: 61_234 }, 429), (error) => {
      assert.ok(error instanceof TransientError);
      assert.equal(error.retryAfterMs, 61_234);
    }],
    ["429 without a wish is transient", () => json({ errcode: "M_LIMIT_EXCEEDED" }, 429), (error) => {
      assert.ok(error instanceof TransientError);
      assert.equal(error.retryAfterMs, 0);
    }],
    [
      "a locked account is transient: its token works again once it is unlocked",
      () => json({ errcode: "M_USER_LOCKED", soft_logout: true }, 401),
      (error) => {
        assert.ok(error instanceof TransientError);
        assert.match(error.message, /401 M_USER_LOCKED: the account is locked$/);
      },
    ],
    ["502 with HTML is transient", () => new Response("<html>bad gateway", { status: 502 }), (error) => {
      assert.ok(error instanceof TransientError);
    }],
    ["200 that is not JSON is transient", () => new Response("<html>captive portal"), (error) => {
      assert.ok(error instanceof TransientError);
    }],
  ];
  for (const [name, response, check] of rows) {
    await t.step(name, () =>
      withServer(response, async (requests) => {
        await requests.send({ method: "GET", path: "/" }, never).then(() => assert.fail("no error"), check);
      }));
  }
});

/** A clock whose waits are over at once, and what was waited. */
function instantly(): { readonly clock: Pick<Clock, "sleep">; readonly waitsMs: number[] } {
  const waitsMs: number[] = [];
  return { clock: { sleep: (ms, signal) => (waitsMs.push(ms), signal.throwIfAborted(), Promise.resolve()) }, waitsMs };
}

Deno.test("HomeserverClient.send() waits as long as a rate limit asks, and reports the wait", async () => {
  const { clock, waitsMs } = instantly();
  const told: number[] = [];
  let asked = 0;
  const everySecond = () => ++asked % 2 === 1 ? json({ retry_after_ms: 700 }, 429) : json({});
  await withServer(everySecond, async (requests) => {
    await requests.send({ method: "GET", path: "/a" }, never);
    await requests.send({ method: "GET", path: "/b" }, never);
  }, { clock, onWait: (waitMs) => told.push(waitMs) });
  assert.deepEqual([waitsMs, told], [[700, 700], [700, 700]]);
});

Deno.test("HomeserverClient.send() gives up on an endless rate limit after 15 s", async () => {
  const { clock, waitsMs } = instantly();
  await withServer(() => json({}, 429, { "retry-after": "4" }), async (requests) => {
    await assert.rejects(requests.send({ method: "GET", path: "/" }, never), (error) => {
      return error instanceof TransientError && error.retryAfterMs === 4_000;
    });
  }, { clock });
  assert.deepEqual(waitsMs, [4_000, 4_000, 4_000]);
});

Deno.test("HomeserverClient.send() ends its wait for a rate limit with the signal", async () => {
  const controller = new AbortController();
  await withServer(() => json({ retry_after_ms: 10_000 }, 429), async (requests) => {
    await assert.rejects(requests.send({ method: "GET", path: "/" }, controller.signal), /stopping/);
  }, { onWait: () => queueMicrotask(() => controller.abort(new Error("stopping"))) });
});

Deno.test("HomeserverClient.send() does not follow a redirect: its token is not for others", async () => {
  let asked = 0;
  const elsewhere = (): Response => (asked += 1, json({}));
  await using other = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, elsewhere);
  const location = `http://127.0.0.1:${other.addr.port}/`;
  await withServer(() => json({}, 307, { location }), async (requests) => {
    await assert.rejects(requests.send({ method: "GET", path: "/p" }, never), TransientError);
  });
  assert.equal(asked, 0);
});

Deno.test("HomeserverClient.send() gives up on a body that stalls", async () => {
  const stalled = () => new Response(new ReadableStream({ start: (body) => body.enqueue(new Uint8Array([123])) }));
  await withServer(stalled, async (requests) => {
    const sent = requests.send({ method: "GET", path: "/", deadlineMs: 50 }, never);
    await assert.rejects(
      sent,
      (error) => error instanceof TransientError && /no answer within 0.05 s/.test(error.message),
    );
  });
});

Deno.test("HomeserverClient.send() names the unreachable address", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  listener.close();
  using requests = new HomeserverClient(`http://127.0.0.1:${port}`);
  const sent = requests.send({ method: "GET", path: "/versions" }, never);
  await assert.rejects(
    sent,
    (error) => error instanceof TransientError && /GET http:\/\/127\.0\.0\.1:\d+\/versions: /.test(error.message),
  );
});

Deno.test("HomeserverClient.send() ends with the signal's reason", async () => {
  const controller = new AbortController();
  const held = (): Promise<Response> =>
    new Promise((resolve) => {
      controller.signal.addEventListener("abort", () => resolve(json({})));
      controller.abort(new Error("stopping"));
    });
  await withServer(held, async (requests) => {
    await assert.rejects(requests.send({ method: "GET", path: "/" }, controller.signal), /stopping/);
  });
});

/** Passes connections on to a port of this host, until it is told that the network to them is dead. */
class Network implements Disposable {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #connections: { dead: boolean }[] = [];

  constructor(to: number) {
    void this.#accept(to);
  }

  get port(): number {
    return this.#listener.addr.port;
  }

  /** All connections stay open, and nothing gets through any more. */
  freeze(): void {
    for (const connection of this.#connections) connection.dead = true;
  }

  async #accept(port: number): Promise<void> {
    for await (const near of this.#listener) {
      const far = await Deno.connect({ hostname: "127.0.0.1", port });
      const connection = { dead: false };
      this.#connections.push(connection);
      const through = () =>
        new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
          transform: (bytes, passed) => connection.dead ? undefined : passed.enqueue(bytes),
        });
      for (const [from, to] of [[near, far], [far, near]] as const) {
        // Either end may break it off.
        from.readable.pipeThrough(through()).pipeTo(to.writable).catch(() => {});
      }
    }
  }

  [Symbol.dispose](): void {
    this.#listener.close();
  }
}

Deno.test("HomeserverClient.send() gets through after a connection died, by the authorities that the user trusts", async (t) => {
  const file = await Deno.makeTempFile();
  await Deno.writeTextFile(file, authority);
  const rows: Record<string, string>[] = [
    { DENO_CERT: file },
    { DENO_TLS_CA_STORE: "system", SSL_CERT_FILE: file },
  ];
  for (const env of rows) {
    await t.step(Object.keys(env).join(" and "), async () => {
      await using server = Deno.serve(
        { hostname: "127.0.0.1", port: 0, cert: certificate, key: privateKey, onListen: () => {} },
        ({ url }) => {
          if (url.endsWith("/frozen")) network.freeze();
          return json({});
        },
      );
      using network = new Network(server.addr.port);
      const program = new URL("homeserver_client_program.ts", import.meta.url).pathname;
      const { stdout } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "--quiet", "-A", program, `https://localhost:${network.port}`, "/before", "/frozen", "/after"],
        env,
        stderr: "inherit",
      }).output();
      assert.deepEqual(new TextDecoder().decode(stdout).trim().split("\n"), [
        "/before: answered",
        "Cannot GET /frozen: no answer within 0.2 s",
        "/after: answered",
      ]);
    });
  }
  await Deno.remove(file);
});
