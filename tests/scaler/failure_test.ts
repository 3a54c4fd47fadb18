import assert from "node:assert/strict";
import { ConflictError, NotFoundError, PermissionError, RejectedError, TransientError } from "../../lib/errors.ts";
import { failureOf, retryAfterMs } from "../../lib/scaler/failure.ts";

const attempt = { verb: "patch", resource: 'deployments.apps/scale "clawdbot" in namespace "agents"' };
const NOW_MS = Date.parse("2026-03-01T12:00:00Z");

function statusBody(reason: string): string {
  return JSON.stringify({ kind: "Status", status: "Failure", reason, message: "a secret of the cluster" });
}

Deno.test("failureOf() makes the class that fits, and says what was tried", async (t) => {
  const cannot = `Cannot patch ${attempt.resource}: `;
  const notKubernetes = (status: number) => `${cannot}got ${status}, and not from a Kubernetes API; check its address`;
  const rows: [status: number, body: string, type: new (...given: never[]) => Error, message: string][] = [
    [403, statusBody("Forbidden"), PermissionError, `${cannot}not permitted`],
    [404, statusBody("NotFound"), NotFoundError, `${cannot}not found`],
    [409, statusBody("Conflict"), ConflictError, `${cannot}it has changed since it was read`],
    [422, statusBody("Invalid"), RejectedError, `${cannot}the Kubernetes API answered 422 (Invalid)`],
    [429, statusBody("TooManyRequests"), TransientError, `${cannot}the Kubernetes API answered 429 (TooManyRequests)`],
    [500, statusBody("InternalError"), TransientError, `${cannot}the Kubernetes API answered 500 (InternalError)`],
    [500, '{"kind":"Status"}', TransientError, `${cannot}the Kubernetes API answered 500`],
    [503, "<html>Bad gateway", TransientError, `${cannot}the Kubernetes API answered 503`],
    [302, "", RejectedError, notKubernetes(302)],
    [403, "<html>Your company's proxy says no", RejectedError, notKubernetes(403)],
    [404, "404 page not found", RejectedError, notKubernetes(404)],
    [404, '{"kind":"Sta', RejectedError, notKubernetes(404)],
    [404, "null", RejectedError, notKubernetes(404)],
    [400, statusBody("Very bad\n"), RejectedError, `${cannot}the Kubernetes API answered 400`],
    [400, '{"kind":"Status","reason":{"a":1}}', RejectedError, `${cannot}the Kubernetes API answered 400`],
  ];
  for (const [status, body, type, message] of rows) {
    await t.step(`${status} ${body.slice(0, 60)}`, () => {
      const error = failureOf(attempt, { status, body, retryAfter: null }, NOW_MS);
      assert.ok(error instanceof type, error.name);
      assert.equal(error.message, message);
    });
  }
});

Deno.test("failureOf() keeps verb and resource of what is not permitted", () => {
  const error = failureOf(attempt, { status: 403, body: statusBody("Forbidden"), retryAfter: null }, NOW_MS);
  assert.ok(error instanceof PermissionError);
  assert.deepEqual([error.verb, error.resource], [attempt.verb, attempt.resource]);
});

Deno.test("retryAfterMs() reads seconds and dates", () => {
  const rows: [header: string | null, ms: number][] = [
    [null, 0],
    ["0", 0],
    [" 7 ", 7_000],
    ["Sun, 01 Mar 2026 12:00:30 GMT", 30_000],
    ["Sun, 01 Mar 2026 11:00:00 GMT", 0],
    ["-5 soon", 0],
    ["", 0],
  ];
  for (const [header, ms] of rows) assert.equal(retryAfterMs(header, NOW_MS), ms, `${header}`);
});
