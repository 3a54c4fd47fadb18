import assert from "node:assert/strict";
import { RejectedError, TransientError } from "../../lib/errors/mod.ts";
import { path, Requests, TokenRefused } from "../../lib/session/request.ts";

const never = new AbortController().signal;

/** Runs `use` with requests to a server that answers as `handler` says. */
async function withServer(handler: Deno.ServeHandler, use: (requests: Requests) => Promise<void>): Promise<void> {
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, handler);
  await use(new Requests(`http://127.0.0.1:${server.addr.port}/`));
}

function json(body: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return Response.json(body, { status, headers });
}

Deno.test("path encodes its variable parts", () => {
  assert.equal(path`/rooms/${"!a/b:x"}/join`, "/rooms/!a%2Fb%3Ax/join");
});

Deno.test("Requests.send() sends method, token, query and body", async () => {
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

Deno.test("Requests.send() tells failures apart", async (t) => {
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
    ["429 waits as Retry-After says", () => json({}, 429, { "retry-after": "7" }), (error) => {
      assert.ok(error instanceof TransientError);
      assert.equal(error.retryAfterMs, 7_000);
    }],
    ["429 of an older server waits as retry_after_ms says", () => json({ retry_after_ms: 1_234 }, 429), (error) => {
      assert.ok(error instanceof TransientError);
      assert.equal(error.retryAfterMs, 1_234);
    }],
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

Deno.test("Requests.send() gives up on a body that stalls", async () => {
  const stalled = () => new Response(new ReadableStream({ start: (body) => body.enqueue(new Uint8Array([123])) }));
  await withServer(stalled, async (requests) => {
    const sent = requests.send({ method: "GET", path: "/", deadlineMs: 50 }, never);
    await assert.rejects(
      sent,
      (error) => error instanceof TransientError && /no answer within 0.05 s/.test(error.message),
    );
  });
});

Deno.test("Requests.send() says what is not reachable", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  listener.close();
  const sent = new Requests(`http://127.0.0.1:${port}`).send({ method: "GET", path: "/versions" }, never);
  await assert.rejects(
    sent,
    (error) => error instanceof TransientError && /GET http:\/\/127\.0\.0\.1:\d+\/versions: /.test(error.message),
  );
});

Deno.test("Requests.send() ends with the signal's reason", async () => {
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
