import assert from "node:assert/strict";
import { gzipSync } from "node:zlib";
import { RejectedError, TransientError } from "../lib/errors.ts";
import { networkReason, redirectOf, retryAfterMs, sendHttp } from "../lib/http.ts";

const never = new AbortController().signal;

/** A server that answers every request in the same way. */
function serve(answer: (request: Request) => Response | Promise<Response>): AsyncDisposable & { readonly url: URL } {
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, answer);
  return {
    url: new URL(`http://127.0.0.1:${server.addr.port}/path?secret=1`),
    async [Symbol.asyncDispose]() {
      await server.shutdown();
    },
  };
}

/** Sends a body's beginning, and the rest when it is told to. */
function stalled(): { response: Response; finish: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  const body = new ReadableStream({
    async start(controller) {
      controller.enqueue(new TextEncoder().encode("half"));
      await promise;
      controller.close();
    },
  });
  return { response: new Response(body), finish: resolve };
}

function get(url: URL, signal = never, options: { deadlineMs?: number; maxBytes?: number } = {}) {
  return sendHttp({ method: "GET", url, deadlineMs: 10_000, ...options }, signal);
}

Deno.test("sendHttp() returns status, headers and body of any answer", async () => {
  await using server = serve(() => new Response("grüß Gott", { status: 404, headers: { "x-a": "b" } }));
  const { status, headers, body } = await get(server.url);
  assert.deepEqual([status, headers.get("x-a"), body], [404, "b", "grüß Gott"]);
});

Deno.test("sendHttp() holds the body to the deadline, too, and names no query", async () => {
  const { response, finish } = stalled();
  await using server = serve(() => response);
  await assert.rejects(get(server.url, never, { deadlineMs: 50 }), (error: Error) => {
    assert.ok(error instanceof TransientError);
    assert.match(error.message, /^Cannot GET http:\/\/127\.0\.0\.1:\d+\/path: no answer within 0\.05 s$/);
    return true;
  });
  finish();
});

Deno.test("sendHttp() lets go of a connection whose body, of a known length, does not come to its end", async (t) => {
  for (const how of ["deadline", "signal"]) {
    await t.step(how, async () => {
      using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
      const controller = new AbortController();
      const deadlineMs = how === "deadline" ? 50 : 10_000;
      const asking = get(new URL(`http://127.0.0.1:${listener.addr.port}/`), controller.signal, { deadlineMs });
      using connection = await listener.accept();
      await connection.read(new Uint8Array(1_024));
      await connection.write(new TextEncoder().encode("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhalf"));
      if (how === "signal") setTimeout(() => controller.abort(new Error("stopping")), 20);
      await assert.rejects(asking, { message: how === "signal" ? "stopping" : /no answer within 0\.05 s$/ });
      assert.equal(await connection.read(new Uint8Array(1)), null);
    });
  }
});

Deno.test("sendHttp() says why a connection broke, without the chain that led there", async () => {
  using server = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const breaking = (async () => {
    const connection = await server.accept();
    await connection.read(new Uint8Array(1_024));
    connection.close();
  })();
  await assert.rejects(get(new URL(`http://127.0.0.1:${server.addr.port}/`)), (error: Error) => {
    assert.ok(error instanceof TransientError);
    assert.match(error.message, /^Cannot GET http:\/\/127\.0\.0\.1:\d+\/: connection closed before message completed$/);
    return true;
  });
  await breaking;
});

Deno.test("sendHttp() ends with the signal's reason, also while the body is read", async () => {
  const { response, finish } = stalled();
  const controller = new AbortController();
  await using server = serve(() => {
    setTimeout(() => controller.abort(new Error("stopping")), 20);
    return response;
  });
  await assert.rejects(get(server.url, controller.signal), { message: "stopping" });
  finish();
});

Deno.test("sendHttp() refuses an answer that is larger than permitted", async () => {
  await using server = serve(() => new Response("x".repeat(2_000_000)));
  await assert.rejects(get(server.url, never, { maxBytes: 1_048_576 }), (error: Error) => {
    assert.ok(error instanceof RejectedError && error.code === "TOO_LARGE");
    assert.match(error.message, /the answer of 2 MiB is larger than 1 MiB$/);
    return true;
  });
});

Deno.test("sendHttp() rejects a too large response by its headers, or once its body exceeds the limit", async () => {
  const rows: [head: string, body: string, message: RegExp][] = [
    ["content-length: 2000000", "x", /the answer of 2 MiB is larger than 1 MiB$/],
    [
      "transfer-encoding: chunked",
      `2\r\nxx\r\n${(1_048_577).toString(16)}\r\n${"x".repeat(1_048_577)}\r\n`,
      /the answer is larger than 1 MiB$/,
    ],
    // The length is not that of the body then (RFC 9112, 6.3).
    [
      "content-length: 2\r\ntransfer-encoding: chunked",
      `2\r\nxx\r\n${(1_048_577).toString(16)}\r\n${"x".repeat(1_048_577)}\r\n`,
      /the answer is larger than 1 MiB$/,
    ],
  ];
  for (const [head, body, message] of rows) {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const asking = get(new URL(`http://127.0.0.1:${listener.addr.port}/`), never, { maxBytes: 1_048_576 });
    using connection = await listener.accept();
    await connection.read(new Uint8Array(1_024));
    const sending = new Response(`HTTP/1.1 200 OK\r\n${head}\r\n\r\n${body}`).body?.pipeTo(connection.writable);
    // The body never ends.
    await assert.rejects(asking, { code: "TOO_LARGE", message });
    await sending?.catch(() => {});
  }
});

Deno.test("sendHttp() rejects a response that is small only as long as it is compressed", async () => {
  const body = gzipSync("x".repeat(2_000_000));
  await using server = serve(() =>
    new Response(body, { headers: { "content-encoding": "gzip", "content-length": `${body.length}` } })
  );
  await assert.rejects(get(server.url, never, { maxBytes: 1_048_576 }), { code: "TOO_LARGE" });
  assert.equal((await get(server.url, never, { maxBytes: 3_000_000 })).body.length, 2_000_000);
});

Deno.test("sendHttp() rejects a URL that is too long to be sent, and shows only its start", async () => {
  await using server = serve(() => new Response());
  for (const long of [`${server.url.origin}/?a=${"x".repeat(70_000)}`, `${server.url.origin}/${"x".repeat(70_000)}`]) {
    await assert.rejects(get(new URL(long)), (error: Error) => {
      assert.ok(error instanceof RejectedError && error.status === 0);
      assert.match(
        error.message,
        /^Cannot GET http:\/\/127\.0\.0\.1:\d+\/(x+…)?: its URL is longer than 65534 characters$/,
      );
      assert.ok(error.message.length < 400);
      return true;
    });
  }
});

Deno.test("networkReason() is never empty, and repeats no URL", async (t) => {
  const url = new URL("http://a.example/path?secret=1");
  const rows: [message: string, reason: string][] = [
    [
      `error sending request for url (${url}): client error (Connect): tcp connect error: Connection refused (os error 111)`,
      "tcp connect error: Connection refused",
    ],
    [`Invalid URL ${url}`, "Invalid URL"],
    [`error sending request for url (${url})`, "error sending request"],
    [`${url}`, "TypeError"],
    ["", "TypeError"],
    ["Bad resource ID", "Bad resource ID"],
  ];
  for (const [message, reason] of rows) {
    await t.step(reason, () => assert.equal(networkReason(new TypeError(message), url), reason));
  }
});

Deno.test("sendHttp() says why a server cannot be reached", async () => {
  const { url } = await (async () => {
    await using server = serve(() => new Response());
    return server;
  })();
  await assert.rejects(get(url), (error: Error) => {
    assert.ok(error instanceof TransientError);
    assert.match(error.message, /^Cannot GET http:\/\/127\.0\.0\.1:\d+\/path: tcp connect error: Connection refused$/);
    assert.doesNotMatch(Deno.inspect(error), /secret/);
    return true;
  });
});

Deno.test("retryAfterMs() reads seconds, a date, or what older homeservers say", async (t) => {
  const nowMs = Date.parse("2026-01-01T00:00:00Z");
  const rows: [header: string | undefined, inBody: number | undefined, ms: number][] = [
    ["3", 700, 3_000],
    ["Thu, 01 Jan 2026 00:00:10 GMT", undefined, 10_000],
    ["Wed, 31 Dec 2025 00:00:00 GMT", undefined, 0],
    ["soon", 700, 700],
    [undefined, 700, 700],
    [undefined, undefined, 0],
  ];
  for (const [header, inBody, ms] of rows) {
    await t.step(`${header}, ${inBody}`, () => {
      const headers = new Headers(header === undefined ? {} : { "retry-after": header });
      assert.equal(retryAfterMs(headers, inBody, nowMs), ms);
    });
  }
});

Deno.test("redirectOf() is where a redirect leads, also by a path alone", () => {
  const base = new URL("https://a.example/x");
  const to = (status: number, location?: string) =>
    redirectOf({ status, headers: new Headers(location === undefined ? {} : { location }) }, base)?.href;
  assert.deepEqual([to(301, "/y"), to(308, "https://b.example/"), to(301), to(200, "/y"), to(302, "http://[")], [
    "https://a.example/y",
    "https://b.example/",
    undefined,
    undefined,
    undefined,
  ]);
});
