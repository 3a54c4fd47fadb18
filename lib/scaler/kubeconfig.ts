/**
 * Credentials from kubeconfig files, by kubectl's rules (client-go v0.35, tools/clientcmd): several files are merged,
 * the first file that names an entry wins, and only the entries of the current context must be valid. Settings that we
 * don't support are rejected by name.
 *
 * @module
 */

import { loadAll, YAML11_SCHEMA } from "js-yaml";
import { dirname, isAbsolute, join, resolve } from "node:path";
import { ConfigError, CredentialError } from "../errors.ts";
import { type Json, list, object } from "../json.ts";
import { type Credentials, type CredentialSource, type Header, nameOf, type TlsOptions } from "./credentials.ts";
import type { CredentialPlugin } from "./credential_plugin.ts";

/** Credentials from kubeconfig files. The context is fixed by the first read, even if current-context changes later. */
export class KubeconfigSource implements CredentialSource {
  readonly #setting: string;
  readonly #paths: readonly string[];
  #context: string | undefined;
  #login: Login | undefined;

  /**
   * @param setting names the setting that the paths come from, for messages
   * @param paths kubeconfig files; missing ones are skipped
   */
  constructor(setting: string, paths: readonly string[]) {
    this.#setting = setting;
    this.#paths = paths;
  }

  get context(): string {
    return this.#context ?? "";
  }

  async read(signal: AbortSignal): Promise<Credentials> {
    signal.throwIfAborted();
    try {
      this.#login ??= await this.#load();
      return await credentialsOf(this.#login, signal);
    } catch (error) {
      if (!(error instanceof Unusable)) throw error;
      const files = this.#paths.join(" and ") || '""';
      throw new ConfigError([`${this.#setting}: can't use ${files}: ${error.message}`]);
    }
  }

  invalidate(): void {
    this.#login = undefined;
  }

  async #load(): Promise<Login> {
    const files = this.#paths.map(readFile).filter((file) => file !== undefined);
    if (files.length === 0) throw new Unusable("no such file");
    const current = this.#context ?? files.map(({ config }) => textIn(config, "current-context")).find(Boolean);
    const known = files.flatMap(({ config }) => list(config.contexts)).map((each) => object(each).name);
    const contexts = `its contexts: ${known.join(", ") || "none"}`;
    if (current === undefined) throw new Unusable(`it has no current-context; ${contexts}`);
    const context = findEntry(files, "context", current);
    if (context === undefined) throw new Unusable(`it has no context "${current}"; ${contexts}`);
    const login = await loginOf(
      mustFind(files, "cluster", context),
      context.fields.user ? mustFind(files, "user", context) : { ...context, description: "no user", fields: {} },
    );
    this.#context = current;
    return login;
  }
}

/** Says why a kubeconfig can't be used. Its message never contains anything that may be secret. */
class Unusable extends Error {}

interface File {
  /** Folder that relative paths in the file are resolved against. */
  readonly folder: string;
  readonly config: Json;
}

/** A cluster, user or context entry. */
interface Entry {
  /** Such as `user "alice"`, for messages. */
  readonly description: string;
  readonly folder: string;
  readonly fields: Json;
}

/** PEM text, or the path of a file that holds it. */
type Pem = { readonly text: string } | { readonly path: string };

/** The current context's cluster and user, parsed and validated. */
interface Login {
  readonly server: string;
  readonly proxyUrl: string | undefined;
  readonly authority: Pem | undefined;
  readonly client: { readonly cert: Pem; readonly key: Pem } | undefined;
  readonly token: string;
  readonly tokenFile: string | undefined;
  readonly headers: readonly Header[];
  readonly plugin: CredentialPlugin | undefined;
}

/** Reads a kubeconfig file; undefined if it doesn't exist. An empty file is an empty configuration. */
function readFile(path: string): File | undefined {
  let text: string;
  try {
    text = Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw new Unusable(`it is not a kubeconfig (${nameOf(error)})`);
  }
  try {
    const [config = {}] = loadAll(text, { schema: YAML11_SCHEMA });
    if (typeof config !== "object" || Array.isArray(config)) throw new TypeError("no mapping");
    return { folder: dirname(resolve(path)), config: object(config) };
  } catch (error) {
    // A YAML parser's message can quote the lines around the error, which may hold keys.
    throw new Unusable(`it is not a kubeconfig (${nameOf(error)})`);
  }
}

function findEntry(files: readonly File[], kind: "cluster" | "user" | "context", name: string): Entry | undefined {
  for (const { folder, config } of files) {
    const found = list(config[`${kind}s`]).map(object).filter((entry) => entry.name === name);
    if (found.length > 1) throw new Unusable(`it has several ${kind}s with the name "${name}"`);
    if (found[0] !== undefined) return { description: `${kind} "${name}"`, folder, fields: object(found[0][kind]) };
  }
  return undefined;
}

function mustFind(files: readonly File[], kind: "cluster" | "user", context: Entry): Entry {
  const name = textIn(context.fields, kind, context.description);
  const entry = findEntry(files, kind, name);
  if (entry === undefined) throw new Unusable(`${context.description} names ${kind} "${name}", which is missing`);
  return entry;
}

/** Value of a string field; "" if it is absent. */
function textIn(fields: Json, name: string, description?: string): string {
  const value = fields[name] ?? "";
  if (typeof value !== "string") {
    throw new Unusable(`${description === undefined ? "" : `${description}: `}${name} is not a string`);
  }
  return value;
}

/** Path in a field, resolved against the kubeconfig's folder; undefined if it is absent. */
function pathIn({ fields, folder, description }: Entry, name: string): string | undefined {
  const path = textIn(fields, name, description);
  if (path === "") return undefined;
  return isAbsolute(path) ? path : join(folder, path);
}

function pemIn(entry: Entry, name: string): Pem | undefined {
  const data = textIn(entry.fields, `${name}-data`, entry.description);
  const path = pathIn(entry, name);
  if (data === "") return path === undefined ? undefined : { path };
  if (path !== undefined) throw new Unusable(`${entry.description} has both ${name} and ${name}-data`);
  try {
    return { text: atob(data) };
  } catch {
    throw new Unusable(`${entry.description}: ${name}-data is not base64`);
  }
}

async function loginOf(cluster: Entry, user: Entry): Promise<Login> {
  const { fields, description } = user;
  const text = (name: string): string => textIn(fields, name, description);
  const authority = pemIn(cluster, "certificate-authority");
  const client = clientCertificateIn(user);
  const server = serverIn(cluster);
  const [token, tokenFile] = [text("token"), pathIn(user, "tokenFile")];
  const [username, password] = [text("username"), text("password")];
  const isBasic = username !== "" || password !== "";
  if (isBasic && token !== "") throw new Unusable(`${description} has both a token and a password`);
  const hasToken = token !== "" || tokenFile !== undefined;
  const headers = [...isBasic ? [basicAuth(username, password)] : [], ...impersonation(user)];
  const plugin = await pluginFor(cluster, user, server, {
    hasAuthorization: isBasic || hasToken,
    hasCertificate: client !== undefined,
  });
  const hasCredentials = isBasic || hasToken || client !== undefined || plugin !== undefined;
  // kubectl silently omits credentials without TLS. We reject that, except on loopback, where a test's proxy may use
  // them.
  if (
    server.startsWith("http:") && hasCredentials &&
    !/^http:\/\/(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:|\/|$)/.test(server)
  ) {
    throw new Unusable(`the credentials of ${description} would be sent in the clear to ${server}; use https`);
  }
  const proxyUrl = textIn(cluster.fields, "proxy-url", cluster.description) || undefined;
  return { server, proxyUrl, authority, client, token, tokenFile, headers, plugin };
}

function clientCertificateIn(user: Entry): { cert: Pem; key: Pem } | undefined {
  const [cert, key] = [pemIn(user, "client-certificate"), pemIn(user, "client-key")];
  if (cert === undefined) return undefined;
  if (key === undefined) throw new Unusable(`${user.description} has a client-certificate without a client-key`);
  return { cert, key };
}

/** Base URL of the API server. Without a scheme it is http, as in kubectl. */
function serverIn({ fields, description }: Entry): string {
  const given = textIn(fields, "server", description);
  if (given === "") throw new Unusable(`${description} has no server`);
  const skipsVerification = fields["insecure-skip-tls-verify"] ?? false;
  if (typeof skipsVerification !== "boolean") {
    throw new Unusable(`${description}: insecure-skip-tls-verify is not true or false`);
  }
  const url = URL.parse(/^https?:\/\//i.test(given) ? given : `http://${given}`);
  if (url === null) throw new Unusable(`${description}: server is not a URL`);
  if (url.protocol === "https:") {
    if (skipsVerification) {
      throw new Unusable("insecure-skip-tls-verify is not supported; use certificate-authority-data instead");
    }
    const name = textIn(fields, "tls-server-name", description);
    if (name !== "" && name !== url.hostname) throw new Unusable("tls-server-name is not supported");
  }
  return url.origin + url.pathname.replace(/\/+$/, "");
}

function basicAuth(username: string, password: string): Header {
  const bytes = new TextEncoder().encode(`${username}:${password}`);
  return ["authorization", `Basic ${bytes.toBase64()}`];
}

/** Headers for user impersonation (Kubernetes API, "User impersonation"). */
function impersonation({ fields, description }: Entry): Header[] {
  const [user, uid] = [textIn(fields, "as", description), textIn(fields, "as-uid", description)];
  const texts = (value: unknown, name: string): string[] =>
    list(value).map((each) => {
      if (typeof each === "string") return each;
      throw new Unusable(`${description}: ${name} has a value that is not a string`);
    });
  const headers: Header[] = [
    ...uid === "" ? [] : [["impersonate-uid", uid] as const],
    ...texts(fields["as-groups"], "as-groups").map((group) => ["impersonate-group", group] as const),
    ...Object.entries(object(fields["as-user-extra"])).flatMap(([key, values]) =>
      texts(values, "as-user-extra").map((value) => [`impersonate-extra-${escapedKey(key)}`, value] as const)
    ),
  ];
  if (user !== "") return [["impersonate-user", user], ...headers];
  if (headers.length > 0) throw new Unusable(`${description} has as-uid, as-groups or as-user-extra without as`);
  return [];
}

/** Percent-encodes the characters of a key that a header name can't contain. */
function escapedKey(key: string): string {
  return [...new TextEncoder().encode(key)].map((byte) => {
    const character = String.fromCharCode(byte);
    return /[\w!#$&'*+.^`|~-]/.test(character) ? character : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }).join("");
}

/** Returns the user's credential plugin, unless the user has a token, password or certificate that takes precedence. */
async function pluginFor(
  cluster: Entry,
  { fields, description, folder }: Entry,
  server: string,
  { hasAuthorization, hasCertificate }: { hasAuthorization: boolean; hasCertificate: boolean },
): Promise<CredentialPlugin | undefined> {
  const exec = object(fields.exec);
  const provider = object(fields["auth-provider"]);
  if (fields.exec && fields["auth-provider"]) throw new Unusable(`${description} has both exec and auth-provider`);
  if (fields.exec && !hasAuthorization && !hasCertificate) {
    const { command, apiVersion, interactiveMode } = exec;
    if (typeof command !== "string" || command === "") throw new Unusable(`${description}: exec has no command`);
    if (!/^client\.authentication\.k8s\.io\/v1(beta1)?$/.test(`${apiVersion}`)) {
      throw new Unusable(
        `${description}: exec has an apiVersion other than client.authentication.k8s.io/v1 and v1beta1`,
      );
    }
    if (interactiveMode === "Always") {
      throw new Unusable(`${description} logs in by asking at a terminal; use another way`);
    }
    const program = /[/\\]/.test(command) && !isAbsolute(command) ? join(folder, command) : command;
    await mayRun(program);
    const { CredentialPlugin } = await import("./credential_plugin.ts");
    return CredentialPlugin.exec({ ...exec, command: program }, execCluster(cluster, server));
  }
  if (fields["auth-provider"] && !hasAuthorization) {
    if (provider.name !== "oidc") {
      throw new Unusable(`${description}: auth-provider "${provider.name}" is not supported`);
    }
    const { CredentialPlugin } = await import("./credential_plugin.ts");
    return CredentialPlugin.oidc(provider);
  }
  return undefined;
}

/** The cluster in the form passed to an exec plugin (Kubernetes API, client.authentication.k8s.io ExecCredential). */
function execCluster({ fields }: Entry, server: string): Json {
  const extension = list(fields.extensions).map(object).find(({ name }) =>
    name === "client.authentication.k8s.io/exec"
  );
  return {
    server,
    "certificate-authority-data": fields["certificate-authority-data"],
    "proxy-url": fields["proxy-url"],
    config: extension?.extension,
  };
}

/**
 * Throws unless the plugin may be run. Only `deno task conntest` and `deno task dev` have the permission to run
 * programs.
 */
async function mayRun(command: string): Promise<void> {
  const { state } = await Deno.permissions.query({ name: "run", command });
  if (state === "granted") return;
  throw new Unusable(
    `its user logs in by running "${command}", which this program may not do; \`deno task conntest\` and ` +
      "`deno task dev` may, or give the user a token or a client certificate",
  );
}

async function credentialsOf(login: Login, signal: AbortSignal): Promise<Credentials> {
  const { server, proxyUrl, authority, client } = login;
  const given = await login.plugin?.read(signal);
  const token = tokenOf(login) || given?.token;
  const cert = client === undefined ? given?.client : { cert: pemOf(client.cert), key: pemOf(client.key) };
  const tls: TlsOptions = { caCerts: authority === undefined ? [] : [pemOf(authority)], client: cert, proxyUrl };
  return {
    server,
    headers: [...token ? [["authorization", `Bearer ${token}`] as const] : [], ...login.headers],
    tls,
  };
}

/** The token file takes precedence over the inline token, which is the fallback if the file can't be read. */
function tokenOf({ token, tokenFile }: Login): string {
  if (tokenFile === undefined) return token.trim();
  try {
    return Deno.readTextFileSync(tokenFile).trim() || token;
  } catch (error) {
    if (token !== "") return token;
    throw new CredentialError(`Cannot read the token ${tokenFile}: ${nameOf(error)}`);
  }
}

function pemOf(pem: Pem): string {
  if ("text" in pem) return pem.text;
  try {
    return Deno.readTextFileSync(pem.path);
  } catch (error) {
    throw new Unusable(`can't read ${pem.path} (${nameOf(error)})`);
  }
}
