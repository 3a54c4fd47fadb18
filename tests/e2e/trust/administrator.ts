/** What whoever runs the homeserver can do to the accounts on it: Synapse's admin API. */

import { httpJson, type Testbed } from "../../../testbed/mod.ts";
import { type Outgoing, put } from "./people.ts";

/** A dishonest administrator. */
export class Administrator {
  readonly #url: string;
  readonly #authorization: string;

  private constructor(url: string, token: string) {
    this.#url = url;
    this.#authorization = `Bearer ${token}`;
  }

  /** Makes the account. */
  static async appear({ homeserver }: Testbed): Promise<Administrator> {
    const password = crypto.randomUUID();
    const { localpart } = await homeserver.register("administrator", password, { admin: true });
    const { access_token } = await httpJson("POST", `${homeserver.url}/_matrix/client/v3/login`, {
      body: { type: "m.login.password", identifier: { type: "m.id.user", user: localpart }, password },
    });
    return new Administrator(homeserver.url, access_token);
  }

  /** An access token of anybody's account; no device comes with it. */
  async tokenOf(userId: string): Promise<string> {
    const path = `/_synapse/admin/v1/users/${encodeURIComponent(userId)}/login`;
    return (await this.#request("POST", path, {})).access_token;
  }

  /** Sends an event in anybody's name. Returns its event id. */
  async sendAs(userId: string, roomId: string, event: Outgoing): Promise<string> {
    return await put({ request: await this.as(userId) }, roomId, event);
  }

  /** Sends requests below `/_matrix/client/v3` in anybody's name. */
  // deno-lint-ignore no-explicit-any
  async as(userId: string): Promise<(method: string, path: string, body?: unknown) => Promise<any>> {
    const authorization = `Bearer ${await this.tokenOf(userId)}`;
    return (method, path, body) => httpJson(method, `${this.#url}/_matrix/client/v3${path}`, { authorization, body });
  }

  /** Gives an account another password; its devices stay logged in. */
  async resetPassword(userId: string, password: string): Promise<void> {
    const path = `/_synapse/admin/v1/reset_password/${encodeURIComponent(userId)}`;
    await this.#request("POST", path, { new_password: password, logout_devices: false });
  }

  /** Takes a device off an account. */
  async deleteDevice(userId: string, deviceId: string): Promise<void> {
    const path = `/_synapse/admin/v2/users/${encodeURIComponent(userId)}/devices/${encodeURIComponent(deviceId)}`;
    await this.#request("DELETE", path);
  }

  // deno-lint-ignore no-explicit-any
  #request(method: string, path: string, body?: unknown): Promise<any> {
    return httpJson(method, `${this.#url}${path}`, { authorization: this.#authorization, body });
  }
}
