/** What the homeserver's administrator can do to accounts, through the admin API or with the accounts' passwords. */

import { type Homeserver, HttpError, httpJson, type Testbed } from "../../../testbed/mod.ts";
import { type Outgoing, put } from "./people.ts";

/** A dishonest administrator. */
export class Administrator {
  readonly #homeserver: Homeserver;
  readonly #authorization: string;
  /** Reset passwords by user ID. */
  readonly #passwords = new Map<string, string>();
  readonly #tokens = new Map<string, string>();

  private constructor(homeserver: Homeserver, token: string) {
    this.#homeserver = homeserver;
    this.#authorization = `Bearer ${token}`;
  }

  /** Creates the administrator's account. */
  static async appear({ homeserver }: Testbed): Promise<Administrator> {
    const password = crypto.randomUUID();
    const { userId } = await homeserver.register("administrator", password, { admin: true });
    return new Administrator(homeserver, await logIn(homeserver, userId, password));
  }

  /** Returns an access token for any account. It comes without a device that has keys. */
  async tokenOf(userId: string): Promise<string> {
    if (this.#homeserver.kind === "synapse") {
      const path = `/_synapse/admin/v1/users/${encodeURIComponent(userId)}/login`;
      return (await this.#request("POST", path, {})).access_token;
    }
    const token = this.#tokens.get(userId) ?? await logIn(this.#homeserver, userId, this.#passwordOf(userId));
    this.#tokens.set(userId, token);
    return token;
  }

  /** Sends an event as any user. Returns its event ID. */
  async sendAs(userId: string, roomId: string, event: Outgoing): Promise<string> {
    return await put({ request: await this.as(userId) }, roomId, event);
  }

  /** Sends requests below `/_matrix/client/v3` as any user. */
  // deno-lint-ignore no-explicit-any
  async as(userId: string): Promise<(method: string, path: string, body?: unknown) => Promise<any>> {
    const authorization = `Bearer ${await this.tokenOf(userId)}`;
    const { url } = this.#homeserver;
    return (method, path, body) => httpJson(method, `${url}/_matrix/client/v3${path}`, { authorization, body });
  }

  /** Resets an account's password. Its devices stay logged in. */
  async resetPassword(userId: string, password: string): Promise<void> {
    const user = encodeURIComponent(userId);
    await (this.#homeserver.kind === "synapse"
      ? this.#request("POST", `/_synapse/admin/v1/reset_password/${user}`, {
        new_password: password,
        logout_devices: false,
      })
      : this.#request("POST", `/_dendrite/admin/resetPassword/${user}`, { password, logout_devices: false }));
    this.#passwords.set(userId, password);
  }

  /** Deletes a device of an account. */
  async deleteDevice(userId: string, deviceId: string): Promise<void> {
    const device = `devices/${encodeURIComponent(deviceId)}`;
    if (this.#homeserver.kind === "synapse") {
      await this.#request("DELETE", `/_synapse/admin/v2/users/${encodeURIComponent(userId)}/${device}`);
      return;
    }
    await deleteOwnDevice(this.#homeserver, userId, this.#passwordOf(userId), deviceId);
  }

  #passwordOf(userId: string): string {
    return this.#passwords.get(userId) ?? this.#homeserver.passwords.get(userId) ?? "";
  }

  // deno-lint-ignore no-explicit-any
  #request(method: string, path: string, body?: unknown): Promise<any> {
    return httpJson(method, `${this.#homeserver.url}${path}`, { authorization: this.#authorization, body });
  }
}

/** Deletes a device like its owner does from another one: with the password (user-interactive authentication). */
export async function deleteOwnDevice(
  homeserver: Homeserver,
  userId: string,
  password: string,
  deviceId: string,
): Promise<void> {
  const url = `${homeserver.url}/_matrix/client/v3/devices/${encodeURIComponent(deviceId)}`;
  const authorization = `Bearer ${await logIn(homeserver, userId, password)}`;
  try {
    await httpJson("DELETE", url, { authorization, body: {} });
  } catch (error) {
    if (!(error instanceof HttpError) || error.status !== 401) throw error;
    const { session } = JSON.parse(error.body);
    const auth = { type: "m.login.password", session, identifier: { type: "m.id.user", user: userId }, password };
    await httpJson("DELETE", url, { authorization, body: { auth } });
  }
}

async function logIn({ url }: Homeserver, user: string, password: string): Promise<string> {
  const { access_token } = await httpJson("POST", `${url}/_matrix/client/v3/login`, {
    body: { type: "m.login.password", identifier: { type: "m.id.user", user }, password },
  });
  return access_token;
}
