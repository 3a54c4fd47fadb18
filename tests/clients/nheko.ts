/**
 * Nheko on a display, and how a person goes about in it. Knows where things are in Nheko's window; nothing of what is
 * said there.
 *
 * @module
 */

import { join } from "node:path";
import { type Area, type Display, type Element, find, within } from "./display.ts";

/** Whose client it is: an account with a device that nobody has used yet. */
export interface Account {
  readonly homeserver: string;
  readonly userId: string;
  readonly deviceId: string;
  readonly accessToken: string;
}

/** A message as the timeline shows it. */
export interface Message extends Area {
  /** Name above it, or above the messages that it follows. */
  readonly sender: string;
  /** Where its time stands; what else is known of the message stands left of that, as small pictures. */
  readonly time: Area;
}

/** As wide as a phone; so high that what was said once still shows. In the program's own pixels. */
const size = { width: 420, height: 1_500 };

/** What stands above the timeline. */
const headerHeight = 56;

/** Program and Debian package of it. */
export const nhekoPackage: Readonly<Record<string, string>> = { nheko: "nheko" };

/** The client. It ends with its display. */
export class Nheko {
  readonly #display: Display;

  private constructor(display: Display) {
    this.#display = display;
  }

  /** Starts it and sets up its encryption, as its first dialog proposes. */
  static async start(display: Display, account: Account): Promise<Nheko> {
    const folder = join(display.home, ".config", "nheko");
    await Deno.mkdir(folder, { recursive: true });
    const lines = [
      ...["[General]", "run_without_secure_secrets_service=true"],
      ...["[auth]", `access_token=${account.accessToken}`, `device_id=${account.deviceId}`],
      ...[`home_server=${account.homeserver}`, `user_id=${account.userId}`],
      ...["[user]", "theme=light", "desktop_notifications=false"],
      ...["[window]", `width=${size.width}`, `height=${size.height}`],
    ];
    await Deno.writeTextFile(join(folder, "nheko.conf"), lines.join("\n") + "\n");
    const program = display.run("nheko", "nheko");
    try {
      await display.until(
        "the dialog that sets up encryption",
        (all) => find(all, { name: "Setup Encryption" }),
        60_000,
      );
    } catch (error) {
      throw new Error(`Cannot start Nheko:\n${await program.tail()}`, { cause: error });
    }
    const accept = { role: "push button", name: "OK" };
    await display.press(accept, (all) => all.find(({ name }) => name.startsWith("This is your recovery key")));
    await display.press(accept);
    return new Nheko(display);
  }

  /** Makes an encrypted room with somebody, and opens it. */
  async startDirectChat(userId: string): Promise<void> {
    const { x, y, height } = await this.#frame("nheko");
    const before = await this.#display.windows("nheko");
    // "Start a new chat" is the first of four buttons at the bottom. Its menu tells nothing of itself: the third
    // entry is "Start a direct chat".
    await this.#display.click(x + size.width / 8, y + height - 20);
    const isOpen = async () => (await this.#display.windows("nheko")).length > before.length;
    await this.#display.until("a menu", async () => await isOpen() ? true : undefined);
    await this.#display.keys("Down", "Down", "Down", "Return");
    await this.#type("@user:server.tld", userId);
    const confirmation = { role: "push button", name: "Yes" };
    await this.#display.press({ role: "push button", name: "Start Direct Chat" }, (all) => find(all, confirmation));
    await this.#display.press(confirmation);
    await this.#display.until("the room", (all) => find(all, { description: "Write a message…" }));
  }

  /** Sends a message to the open room, and waits until it and an answer show. */
  async send(text: string): Promise<void> {
    const before = (await this.messages()).length;
    await this.#type("Write a message…", text);
    await this.#display.keys("Return");
    await this.#display.until(
      `"${text}" and an answer`,
      (all) => messagesIn(all).length >= before + 2 ? true : undefined,
    );
  }

  /** Messages of the open room that have been shown since it was opened, from top to bottom. */
  async messages(): Promise<Message[]> {
    return messagesIn(await this.#display.elements());
  }

  /** Selects and copies what a message says. (Qt 5 does not tell screen readers what stands in a text of many lines.) */
  async textOf(message: Message): Promise<string> {
    return await this.#display.copied(async () => {
      await this.#display.click(message.x + 62, message.y + message.height - 9);
      await this.#display.keys("ctrl+a", "ctrl+c");
    });
  }

  /** What Nheko says of a message's encryption, when one points at its shield. */
  async encryptionOf({ time }: Message): Promise<string> {
    return await this.#tip(time.x - 8, time.y + time.height / 2);
  }

  /** What Nheko says left of the shield: whether a message of somebody else was edited. */
  async stateOf({ time }: Message): Promise<string> {
    return await this.#tip(time.x - 23, time.y + time.height / 2);
  }

  /**
   * Verifies a message's sender by emoji, as far as the emojis.
   *
   * @returns them with their names, as in `🐶 Dog`, and where they are shown
   */
  async beginVerification(message: Message): Promise<{ emojis: string[]; area: Area }> {
    const avatar = { x: message.x + 20, y: message.y };
    await this.#display.insist(
      "the sender's profile",
      () => this.#display.click(avatar.x, avatar.y),
      (all) => find(all, { role: "frame", name: "Room User Profile" }),
    );
    const start = { role: "push button", name: "Start verification" };
    await this.#display.press({ role: "push button", name: "Verify" }, (all) => find(all, start));
    await this.#display.press(start);
    const emojiFrame = (all: Element[]) => find(all, { role: "frame", name: "" }, isOfEmojis);
    const narrow = await this.#display.settled("emojis", emojiFrame);
    // Names of emojis can be too long for Nheko's own width.
    const width = Math.max(...[...within(narrow)].map((element) => element.x + element.width - narrow.x)) + 10;
    await this.#display.resize(width, narrow.height);
    const area = await this.#display.settled("emojis", (all) => {
      const wide = emojiFrame(all);
      return wide?.width === width ? wide : undefined;
    });
    const labels = [...within(area)].filter(({ role, name }) => role === "label" && name.length < 20);
    const emojis = labels.flatMap(({ name }, index) => index % 2 === 0 ? [`${name} ${labels[index + 1]?.name}`] : []);
    return { emojis, area };
  }

  /** Says that the emojis are the same, waits until the other side has said so, too, and closes what was opened. */
  async endVerification(): Promise<void> {
    await this.#display.press({ role: "push button", name: "They match!" });
    await this.#display.until(
      "a successful verification",
      (all) => all.find(({ name }) => name.startsWith("Verification successful!")),
    );
    await this.#display.press({ role: "push button", name: "Close" });
    await this.#display.press({ role: "push button", name: "OK" });
  }

  /** Takes a picture of the conversation, from a message on. */
  async picture(first: Message, path: string): Promise<void> {
    const { x, y, width, height } = await this.#frame("nheko");
    // So that nothing is selected, and nothing is pointed at.
    await this.#display.click(x + width / 2, y + height - 20);
    await this.#display.point(x + width / 2, y + headerHeight / 2);
    await this.#display.resize(width, height - (first.y - nameHeight - y - headerHeight));
    const window = await this.#display.settled("the window", (all) => {
      const found = find(all, { role: "frame", name: "nheko" });
      return found && found.height < height ? found : undefined;
    });
    await this.#display.picture(window, path);
    await this.#display.resize(width, height);
  }

  /** Types into a field of text that is empty, known by what it asks for. */
  async #type(description: string, text: string): Promise<void> {
    const field = (all: Element[]) => find(all, { role: "text", description });
    const { x, y, width, height } = await this.#display.settled(`a field for "${description}"`, field);
    await this.#display.click(x + width / 2, y + height / 2);
    await this.#display.type(text);
    await this.#display.until(`"${text}" as it was typed`, (all) => field(all)?.text === text ? true : undefined);
  }

  async #tip(x: number, y: number): Promise<string> {
    const frame = await this.#frame("nheko");
    await this.#display.point(frame.x + frame.width / 2, frame.y + 3);
    await this.#untilGone({ role: "tool tip" });
    await this.#display.point(x, y);
    return await this.#display.until("a tip", (all) => find(all, { role: "tool tip" })?.name);
  }

  async #frame(name: string): Promise<Element> {
    return await this.#display.settled(`the window ${name}`, (all) => find(all, { role: "frame", name }));
  }

  async #untilGone(unwanted: Parameters<typeof find>[1]): Promise<void> {
    await this.#display.until(
      `no more of ${JSON.stringify(unwanted)}`,
      (all) => find(all, unwanted) === undefined ? true : undefined,
    );
  }
}

/** A name above a message takes so much, and stands so far right of where the message's row begins. */
const [nameHeight, nameIndent] = [28, 48];

/** The messages among what Nheko shows: a wide button each, in which its time stands. */
function messagesIn(elements: readonly Element[]): Message[] {
  const buttons = elements.filter(({ role }) => role === "push button");
  const bodies = buttons.filter(({ width }) => width > size.width * 0.9);
  return bodies.sort((one, other) => one.y - other.y).flatMap((body) => {
    const time = body.children.find(({ role, name }) => role === "label" && /^\d{1,2}:\d\d/.test(name));
    // A quotation has a name, too: further to the right.
    const names = buttons.filter(({ x, y }) => x === body.x + nameIndent && y < body.y);
    const [sender] = names.sort((one, other) => other.y - one.y)[0]?.children ?? [];
    return time && sender ? [{ ...body, sender: sender.name, time }] : [];
  });
}

/** Seven emojis, with a name each. */
function isOfEmojis(frame: Element): boolean {
  const labels = [...within(frame)].filter(({ role }) => role === "label");
  return labels[0]?.name.startsWith("Please verify the following emoji") === true && labels.length === 16;
}
