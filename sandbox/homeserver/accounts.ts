/**
 * Users, devices, access tokens, login and user-interactive authentication.
 *
 * @module
 */
import { forbidden, type JsonObject, MatrixError, notFound, objectOf, randomId, Stream, textIn } from "./protocol.ts";

export interface User {
  readonly userId: string;
  /** Password in clear text, because this is a stand-in. */
  password: string;
  displayName: string;
  /** Display names of devices by device id; empty for none. */
  readonly devices: Map<string, string>;
  /** Global account data by type, with the stream position of its last change. */
  readonly accountData: Map<string, { content: JsonObject; place: number }>;
  /** Stored filters. The index is the filter id. */
  readonly filters: JsonObject[];
}

/** Sender of a request. */
export interface Session {
  readonly user: User;
  readonly deviceId: string;
  readonly token: string;
}

/** Owner of a token. */
interface Owner {
  readonly userId: string;
  readonly deviceId: string;
}

/** An access token. */
interface AccessToken extends Owner {
  /** Milliseconds since the epoch; Infinity if it doesn't expire. */
  readonly expiresAtMs: number;
  /** Refresh token that it was issued for. Its first use invalidates that one. */
  readonly cameBy: string | undefined;
}

/** A refresh token. */
interface RefreshToken extends Owner {
  /** Refresh token that it was issued for. Its first use invalidates that one. */
  readonly cameBy: string | undefined;
  /** Whether it is no longer valid. */
  ended: boolean;
}

export interface AccountsOptions {
  /** Domain of the user ids. */
  readonly serverName: string;
  /** Shared HS256 secret of JWT login. */
  readonly jwtSecret: string;
  /** Lifetime of access tokens that have a refresh token, in milliseconds. */
  readonly refreshableMs: number;
  /** Whether a refresh token can be used only once, even if the tokens that it yields are never used. */
  readonly strictRefresh: boolean;
  /** Stream that gives account data its positions. */
  readonly stream: Stream;
  /** Wall clock, milliseconds since the epoch. */
  readonly now: () => number;
}

/** The users of a homeserver and their tokens. */
export class Accounts {
  readonly #serverName: string;
  readonly #options: AccountsOptions;
  readonly #stream: Stream;
  readonly #users = new Map<string, User>();
  readonly #tokens = new Map<string, AccessToken>();
  readonly #refreshTokens = new Map<string, RefreshToken>();
  readonly #softlyRevoked = new Set<string>();
  readonly #loginTokens = new Map<string, string>();
  readonly #authSessions = new Map<string, string>();

  constructor(options: AccountsOptions) {
    this.#options = options;
    this.#serverName = options.serverName;
    this.#stream = options.stream;
  }

  /** Adds a user. The display name is the localpart, as on Synapse. */
  register(localpart: string, password: string): User {
    const userId = `@${localpart}:${this.#serverName}`;
    if (this.#users.has(userId)) throw new MatrixError(400, "M_USER_IN_USE", "User ID already taken.");
    const empty = { devices: new Map(), accountData: new Map(), filters: [] };
    const user: User = { userId, password, displayName: localpart, ...empty };
    this.#users.set(userId, user);
    return user;
  }

  /** Returns a user; undefined if there is none. */
  find(userId: string): User | undefined {
    return this.#users.get(userId);
  }

  /**
   * Returns a user.
   *
   * @throws MatrixError 404 if there is none
   */
  get(userId: string): User {
    const user = this.#users.get(userId);
    if (user === undefined) throw notFound("User not found");
    return user;
  }

  /** Returns the user with a localpart, creating it if necessary. */
  named(localpart: string): User {
    return this.#users.get(`@${localpart}:${this.#serverName}`) ?? this.register(localpart, randomId(20));
  }

  /** Issues a token for one m.login.token login, as single sign-on does. */
  issueLoginToken(userId: string): string {
    const token = randomId(20);
    this.#loginTokens.set(token, this.get(userId).userId);
    return token;
  }

  /** POST /login (Matrix spec v1.16, client-server API, 5.4.1). */
  async login(body: JsonObject): Promise<JsonObject> {
    const user = await this.#identify(body);
    const deviceId = typeof body["device_id"] === "string" ? body["device_id"] : randomId(10).toUpperCase();
    const name = user.devices.get(deviceId) ?? String(body["initial_device_display_name"] ?? "");
    user.devices.set(deviceId, name);
    const owner = { userId: user.userId, deviceId };
    const tokens = body["refresh_token"] === true
      ? this.#issue(owner, undefined)
      : { access_token: this.#issueAccess(owner, Infinity, undefined) };
    return { user_id: user.userId, home_server: this.#serverName, device_id: deviceId, ...tokens };
  }

  /**
   * POST /refresh (Matrix spec v1.16, client-server API, "Refreshing access tokens").
   *
   * @throws MatrixError 401 if the token is unknown, 403 if it has been used
   */
  refresh(body: JsonObject): JsonObject {
    const token = textIn(body, "refresh_token");
    const known = this.#refreshTokens.get(token);
    if (known === undefined) throw new MatrixError(401, "M_UNKNOWN_TOKEN", "refresh token does not exist");
    if (known.ended) throw forbidden("refresh token isn't valid anymore");
    this.#end(known.cameBy);
    if (this.#options.strictRefresh) known.ended = true;
    return this.#issue(known, token);
  }

  /** Issues an access token that expires, with a refresh token. */
  #issue({ userId, deviceId }: Owner, cameBy: string | undefined): JsonObject {
    const { refreshableMs, now } = this.#options;
    const refreshToken = `syr_${randomId(24)}`;
    this.#refreshTokens.set(refreshToken, { userId, deviceId, cameBy, ended: false });
    const accessToken = this.#issueAccess({ userId, deviceId }, now() + refreshableMs, cameBy);
    return { access_token: accessToken, refresh_token: refreshToken, expires_in_ms: refreshableMs };
  }

  #issueAccess({ userId, deviceId }: Owner, expiresAtMs: number, cameBy: string | undefined): string {
    const token = `syt_${randomId(24)}`;
    this.#tokens.set(token, { userId, deviceId, expiresAtMs, cameBy });
    return token;
  }

  #end(refreshToken: string | undefined): void {
    const known = this.#refreshTokens.get(refreshToken ?? "");
    if (known !== undefined) known.ended = true;
  }

  async #identify(body: JsonObject): Promise<User> {
    switch (body["type"]) {
      case "m.login.password":
        return this.#byPassword(body);
      case "m.login.token": {
        const token = textIn(body, "token");
        const userId = this.#loginTokens.get(token);
        this.#loginTokens.delete(token);
        if (userId === undefined) throw forbidden("Invalid login token");
        return this.get(userId);
      }
      case "org.matrix.login.jwt": {
        const subject = await jwtSubject(textIn(body, "token"), this.#options.jwtSecret);
        return this.named(subject);
      }
      // Added to Synapse by the module synapse-token-authenticator.
      case "com.famedly.login.token.oauth":
      case "com.famedly.login.token": {
        const subject = await jwtSubject(textIn(body, "token"), this.#options.jwtSecret);
        if (objectOf(body["identifier"])["user"] !== subject) throw forbidden("Invalid token");
        return this.named(subject);
      }
      default:
        throw new MatrixError(400, "M_INVALID_PARAM", "Invalid login submission");
    }
  }

  #byPassword(body: JsonObject): User {
    const name = String(objectOf(body["identifier"])["user"] ?? body["user"] ?? "");
    const user = this.#users.get(name.startsWith("@") ? name : `@${name}:${this.#serverName}`);
    if (user === undefined || user.password !== body["password"]) throw forbidden("Invalid username or password");
    return user;
  }

  /**
   * Returns the sender of a request.
   *
   * @throws MatrixError 401 M_MISSING_TOKEN, or M_UNKNOWN_TOKEN with `soft_logout`
   */
  authenticate(request: Request): Session {
    const token = request.headers.get("authorization")?.replace(/^Bearer /, "");
    if (token === undefined) throw new MatrixError(401, "M_MISSING_TOKEN", "Missing access token");
    const owner = this.#tokens.get(token);
    if (owner === undefined) {
      throw new MatrixError(401, "M_UNKNOWN_TOKEN", "Invalid access token passed.", {
        soft_logout: this.#softlyRevoked.has(token),
      });
    }
    if (owner.expiresAtMs <= this.#options.now()) {
      throw new MatrixError(401, "M_UNKNOWN_TOKEN", "Access token has expired", { soft_logout: true });
    }
    this.#end(owner.cameBy);
    return { user: this.get(owner.userId), deviceId: owner.deviceId, token };
  }

  /**
   * Revokes the tokens of a device.
   *
   * @param soft whether the device is kept and its owner is told to log in again with the same id
   */
  revoke(userId: string, deviceId: string, soft: boolean): void {
    for (const [token, owner] of [...this.#tokens]) {
      if (owner.userId !== userId || owner.deviceId !== deviceId) continue;
      this.#tokens.delete(token);
      if (soft) this.#softlyRevoked.add(token);
    }
    for (const [token, owner] of [...this.#refreshTokens]) {
      if (owner.userId === userId && owner.deviceId === deviceId) this.#refreshTokens.delete(token);
    }
  }

  /** Deletes a device and its tokens. */
  deleteDevice(userId: string, deviceId: string): void {
    this.get(userId).devices.delete(deviceId);
    this.revoke(userId, deviceId, false);
  }

  /** Sets global account data. */
  setAccountData(user: User, type: string, content: JsonObject): void {
    user.accountData.set(type, { content, place: this.#stream.advance() });
  }

  /**
   * User-interactive authentication by password (Matrix spec v1.16, client-server API, 5.5).
   *
   * @throws MatrixError 401 with flows and session until the password is given
   */
  requirePassword(user: User, body: JsonObject): void {
    const auth = objectOf(body["auth"]);
    const known = this.#authSessions.get(String(auth["session"])) === user.userId;
    const session = known ? String(auth["session"]) : randomId(24);
    this.#authSessions.set(session, user.userId);
    const challenge = { session, flows: [{ stages: ["m.login.password"] }], params: {} };
    if (auth["type"] !== "m.login.password" || !known) throw new MatrixError(401, "", "Authentication", challenge);
    const identifier = objectOf(auth["identifier"])["user"] ?? auth["user"] ?? user.userId;
    const named = identifier === user.userId || `@${identifier}:${this.#serverName}` === user.userId;
    if (!named || auth["password"] !== user.password) {
      throw new MatrixError(401, "M_FORBIDDEN", "Invalid username or password", { ...challenge, completed: [] });
    }
  }
}

/**
 * Verifies an HS256 token and returns its subject.
 *
 * @throws MatrixError 403 if it is invalid
 */
async function jwtSubject(token: string, secret: string): Promise<string> {
  const [header = "", payload = "", signature = ""] = token.split(".");
  try {
    const bytes = new TextEncoder();
    const algorithm = { name: "HMAC", hash: "SHA-256" };
    const key = await crypto.subtle.importKey("raw", bytes.encode(secret), algorithm, false, ["verify"]);
    const signed = bytes.encode(`${header}.${payload}`);
    const options = { alphabet: "base64url" } as const;
    const valid = await crypto.subtle.verify("HMAC", key, Uint8Array.fromBase64(signature, options), signed);
    const read = (part: string) => JSON.parse(new TextDecoder().decode(Uint8Array.fromBase64(part, options)));
    const { sub, exp } = read(payload);
    if (valid && read(header).alg === "HS256" && typeof sub === "string" && !(exp < Date.now() / 1_000)) return sub;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw forbidden("JWT validation failed");
}
