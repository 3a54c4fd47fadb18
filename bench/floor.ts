/**
 * The floor: the least that can be done between a message and a Deployment, a long poll, a PATCH and an answer. No
 * encryption, no authorization, no store. Reads the same variables as the operators.
 *
 * @module
 */

const env = (name: string): string => Deno.env.get(name) ?? "";
const homeserver = env("MATRIX_HOMESERVER");
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount";
const token = await Deno.readTextFile(`${serviceAccount}/token`);
const client = Deno.createHttpClient({ caCerts: [await Deno.readTextFile(`${serviceAccount}/ca.crt`)] });
const scale = `https://${env("KUBERNETES_SERVICE_HOST")}:${env("KUBERNETES_SERVICE_PORT")}/apis/apps/v1/namespaces/` +
  `${env("DEPLOYMENT_NAMESPACE")}/deployments/${env("DEPLOYMENT_NAME")}/scale`;
let accessToken = "";

async function matrix(method: string, path: string, body?: unknown): Promise<Response> {
  return await fetch(`${homeserver}/_matrix/client/v3${path}`, {
    method,
    headers: accessToken === "" ? {} : { authorization: `Bearer ${accessToken}` },
    body: body === undefined ? null : JSON.stringify(body),
  });
}

const login = {
  type: "m.login.password",
  identifier: { type: "m.id.user", user: env("MATRIX_USER") },
  password: env("MATRIX_PASSWORD"),
};
const session = await (await matrix("POST", "/login", login)).json();
accessToken = session.access_token;
const filter = encodeURIComponent(JSON.stringify({ room: { timeline: { not_senders: [session.user_id] } } }));
let since = "";
for (;;) {
  const sync = await (await matrix("GET", `/sync?filter=${filter}&${since && `since=${since}&timeout=30000`}`)).json();
  if (since === "") console.log("Ready");
  since = sync.next_batch;
  for (const roomId of Object.keys(sync.rooms?.invite ?? {})) await matrix("POST", `/rooms/${roomId}/join`, {});
  for (const [roomId, room] of Object.entries<Joined>(sync.rooms?.join ?? {})) {
    for (const { type, content } of room.timeline.events) {
      if (type === "m.room.message") await handleCommand(roomId, content);
    }
  }
}

interface Joined {
  readonly timeline: { readonly events: readonly { readonly type: string; readonly content: { body: string } }[] };
}

async function handleCommand(roomId: string, { body }: { body: string }): Promise<void> {
  const replicas = body === "start" ? 1 : 0;
  const response = await fetch(scale, {
    method: "PATCH",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/merge-patch+json" },
    body: JSON.stringify({ spec: { replicas } }),
    client,
  });
  await response.body?.cancel();
  const answer = { msgtype: "m.notice", body: replicas === 1 ? "is on" : "is off" };
  await matrix("PUT", `/rooms/${roomId}/send/m.room.message/${crypto.randomUUID()}`, answer);
}
