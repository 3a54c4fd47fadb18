/**
 * A display that nobody sits at, and what a person would do there: look, point, type, take a picture. Looking goes by
 * what programs tell of themselves to screen readers (AT-SPI). Knows nothing of the programs.
 *
 * @module
 */

import { join } from "node:path";
import { containment } from "../../testbed/pod.ts";
import { Child } from "../../testbed/process.ts";

/** A command that looks or points is over long before this. */
const commandMs = 20_000;

/** Real pixels to one of the programs' own: pictures are sharp on today's screens. */
const scale = 2;

/** Debian's own Python, the one that Debian's modules are for. */
const systemPython = "/usr/bin/python3";

/** Programs that a display needs, and the Debian package of each. */
const programs: Readonly<Record<string, string>> = {
  Xvfb: "xvfb",
  openbox: "openbox",
  xdotool: "xdotool",
  xclip: "xclip",
  import: "imagemagick",
  "dbus-daemon": "dbus-daemon",
  "dbus-send": "dbus-bin",
  setpriv: "util-linux",
};

/** Files that a display needs, and the Debian package of each. */
const files: Readonly<Record<string, string>> = {
  "/usr/libexec/at-spi-bus-launcher": "at-spi2-core",
  "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf": "fonts-dejavu-core",
  "/usr/share/fonts/truetype/dejavu/DejaVuSans-Oblique.ttf": "fonts-dejavu-extra",
  "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf": "fonts-noto-color-emoji",
};

/** Something that a program shows, in its own pixels from the upper left corner of the display. */
export interface Element {
  /** What kind of thing, in AT-SPI's words: `push button`, `label`. */
  readonly role: string;
  /** What stands on it. */
  readonly name: string;
  /** What a screen reader says besides. */
  readonly description: string;
  /** What was typed into it. */
  readonly text: string;
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  readonly children: readonly Element[];
}

/** What an element is known by. */
export type Wanted = Partial<Pick<Element, "role" | "name" | "description">>;

/** Finds something in what shows; undefined if it isn't there yet. */
export type Look<T> = (elements: Element[]) => T | undefined | Promise<T | undefined>;

/** An area of the display. */
export type Area = Pick<Element, "x" | "y" | "width" | "height">;

/** An element and all below it. */
export function* within(element: Element): Generator<Element> {
  yield element;
  for (const child of element.children) yield* within(child);
}

/** The first element like that, wherever it is. */
export function find(
  elements: Iterable<Element>,
  wanted: Wanted,
  suits: (element: Element) => boolean = () => true,
): Element | undefined {
  for (const element of elements) {
    const fits = (["role", "name", "description"] as const).every((key) =>
      wanted[key] === undefined || element[key] === wanted[key]
    );
    if (fits && suits(element)) return element;
  }
  return undefined;
}

/**
 * Says which Debian packages are missing here.
 *
 * @param more further programs, with the Debian package of each
 * @throws Error that names them, if there are any
 */
export async function assertInstalled(more: Readonly<Record<string, string>>): Promise<void> {
  const folders = (Deno.env.get("PATH") ?? "").split(":");
  const exists = (path: string) => Deno.stat(path).then(() => true, () => false);
  const missing = new Set<string>();
  for (const [program, debianPackage] of Object.entries({ ...programs, ...more })) {
    const found = await Promise.all(folders.map((folder) => exists(join(folder, program))));
    if (!found.includes(true)) missing.add(debianPackage);
  }
  for (const [path, debianPackage] of Object.entries(files)) {
    if (!(await exists(path))) missing.add(debianPackage);
  }
  const readsScreens = 'import gi; gi.require_version("Atspi", "2.0")';
  const python = await new Deno.Command("/usr/bin/env", { args: [systemPython, "-c", readsScreens] }).output();
  if (!python.success) missing.add("python3-gi").add("gir1.2-atspi-2.0");
  if (missing.size === 0) return;
  const packages = [...missing].sort().join(" ");
  throw new Error(`Cannot show a client: on Debian, apt-get install --no-install-recommends ${packages}`);
}

/** The display. Disposing ends every program on it. */
export class Display implements AsyncDisposable {
  readonly #resources = new AsyncDisposableStack();
  readonly #folder: string;
  #environment: Readonly<Record<string, string>> = {};

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /**
   * Starts it, with a window manager and a bus for accessibility.
   *
   * @param folder empty folder for logs, and a home for the programs
   */
  static async start(folder: string): Promise<Display> {
    const display = new Display(folder);
    try {
      await display.#start();
      return display;
    } catch (error) {
      await display[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Folder that is the programs' home. */
  get home(): string {
    return join(this.#folder, "home");
  }

  /** Runs a program on it until it ends, or the display does. */
  run(name: string, ...command: [string, ...string[]]): Child {
    return this.#resources.use(this.#child(name, command));
  }

  /** All that shows now. */
  async elements(): Promise<Element[]> {
    const script = join(import.meta.dirname ?? "", "accessibility.py");
    const roots: Element[] = JSON.parse(await this.#output([systemPython, "-W", "ignore", script]));
    return roots.flatMap((root) => [...within(root)]);
  }

  /**
   * Looks again and again until something is found.
   *
   * @param what what is looked for, for the message
   * @throws Error with what shows instead, if it doesn't come in time
   */
  async until<T>(what: string, look: Look<T>, deadlineMs = 20_000): Promise<T> {
    const { found, elements } = await this.#look(look, deadlineMs);
    if (found !== undefined) return found;
    const words = elements.flatMap(({ role, name, text }) => name || text ? [`${role} "${name || text}"`] : []);
    throw new Error(`Cannot find ${what} after ${deadlineMs} ms. There is:\n${words.join("\n")}`);
  }

  /** Waits for an element that stays where it is, as one does before pointing at it. */
  async settled(what: string, look: (elements: Element[]) => Element | undefined): Promise<Element> {
    let before: Element | undefined;
    return await this.until(`${what}, at rest`, (elements) => {
      const now = look(elements);
      const rests = now !== undefined && before !== undefined && sameArea(now, before);
      before = now;
      return rests ? now : undefined;
    });
  }

  /**
   * Clicks the middle of an element, once it is there and at rest, and again if that has no effect: a window that has
   * just opened may still be moved when the pointer is on its way.
   *
   * @param effect what is to show then; unless given, that the element doesn't show any more
   */
  async press(
    wanted: Wanted,
    effect: Look<unknown> = (elements) => find(elements, wanted) === undefined ? true : undefined,
  ): Promise<void> {
    const what = JSON.stringify(wanted);
    await this.insist(`the effect of pressing ${what}`, async () => {
      const { x, y, width, height } = await this.settled(what, (elements) => find(elements, wanted));
      await this.click(x + width / 2, y + height / 2);
    }, effect);
  }

  /** Does something until it has its effect, four times at most. */
  async insist(what: string, act: () => Promise<void>, effect: Look<unknown>): Promise<void> {
    for (let attempt = 1; attempt < 4; attempt++) {
      await act();
      if ((await this.#look(effect, 5_000)).found !== undefined) return;
    }
    await act();
    await this.until(what, effect);
  }

  /** Clicks there. */
  async click(x: number, y: number): Promise<void> {
    await this.point(x, y);
    await this.#output(["xdotool", "click", "1"]);
  }

  /** Moves the pointer there. */
  async point(x: number, y: number): Promise<void> {
    await this.#output(["xdotool", "mousemove", `${Math.round(x * scale)}`, `${Math.round(y * scale)}`]);
  }

  /** Types. */
  async type(text: string): Promise<void> {
    await this.#output(["xdotool", "type", "--delay", "30", text]);
  }

  /** Presses keys, one after the other, in xdotool's names. */
  async keys(...names: string[]): Promise<void> {
    await this.#output(["xdotool", "key", "--delay", "50", ...names]);
  }

  /** Windows of a class that can be seen, menus among them. */
  async windows(windowClass: string): Promise<string[]> {
    const ids = await this.#output(["xdotool", "search", "--onlyvisible", "--class", windowClass], [0, 1]);
    return ids.split("\n").filter((id) => id !== "");
  }

  /** Gives the window that has the keyboard another size. */
  async resize(width: number, height: number): Promise<void> {
    await this.#output(["xdotool", "getactivewindow", "windowsize", `${width * scale}`, `${height * scale}`]);
  }

  /** What was selected and is copied by `copy`; that has to change the clipboard within 3 s. */
  async copied(copy: () => Promise<void>): Promise<string> {
    const nothing = crypto.randomUUID();
    await this.#input(["xclip", "-selection", "clipboard", "-in"], nothing);
    await copy();
    const deadline = performance.now() + 3_000;
    for (;;) {
      const text = await this.#output(["xclip", "-selection", "clipboard", "-out"], [0, 1]);
      if (text !== nothing && text !== "") return text;
      if (performance.now() > deadline) throw new Error("Cannot copy: nothing came to the clipboard");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Takes a small picture of a window, without its edge. */
  async picture({ x, y, width, height }: Area, path: string): Promise<void> {
    const crop = `${(width - 2) * scale}x${(height - 2) * scale}+${(x + 1) * scale}+${(y + 1) * scale}`;
    const small = ["-dither", "None", "-colors", "128", "-strip"];
    await this.#output(["import", "-window", "root", "-crop", crop, "+repage", ...small, `png8:${path}`]);
  }

  /** Ends the programs, the latest first. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }

  async #look<T>(look: Look<T>, deadlineMs: number): Promise<{ found: T | undefined; elements: Element[] }> {
    const deadline = performance.now() + deadlineMs;
    for (;;) {
      const elements = await this.elements();
      const found = await look(elements);
      if (found !== undefined || performance.now() > deadline) return { found, elements };
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  async #start(): Promise<void> {
    const runtime = join(this.#folder, "runtime");
    await Deno.mkdir(this.home);
    await Deno.mkdir(runtime, { mode: 0o700 });
    this.#environment = {
      PATH: Deno.env.get("PATH") ?? "/usr/bin:/bin",
      HOME: this.home,
      XDG_RUNTIME_DIR: runtime,
      LANG: "C.UTF-8",
      LIBGL_ALWAYS_SOFTWARE: "1",
      QT_SCALE_FACTOR: `${scale}`,
    };
    const screen = ["-screen", "0", "2000x3200x24", "-nolisten", "tcp"];
    const number = await this.#announced("Xvfb", ["Xvfb", "-displayfd", "1", ...screen]);
    this.#environment = { ...this.#environment, DISPLAY: `:${number}` };
    const address = await this.#announced("dbus-daemon", ["dbus-daemon", "--session", "--nofork", "--print-address=1"]);
    this.#environment = { ...this.#environment, DBUS_SESSION_BUS_ADDRESS: address };
    this.run("openbox", "openbox", "--sm-disable", "--config-file", join(import.meta.dirname ?? "", "openbox.xml"));
    // Programs tell of themselves only where somebody listens. The bus starts what answers this.
    await this.#output([
      ...["dbus-send", "--session", "--print-reply", "--dest=org.a11y.Bus", "/org/a11y/bus"],
      ...["org.freedesktop.DBus.Properties.Set", "string:org.a11y.Status", "string:IsEnabled", "variant:boolean:true"],
    ]);
  }

  /** Starts a program whose first line of output says where it is to be found. */
  async #announced(name: string, command: [string, ...string[]]): Promise<string> {
    const child = this.#resources.use(this.#child(name, command, true));
    const lines = child.output.pipeThrough(new TextDecoderStream()).getReader();
    this.#resources.defer(() => lines.cancel());
    for (let text = "";;) {
      const { value, done } = await lines.read();
      if (done) throw new Error(`Cannot start ${name}: it has ended\n${await child.tail()}`);
      text += value;
      if (text.includes("\n")) return text.slice(0, text.indexOf("\n"));
    }
  }

  #child(name: string, command: readonly string[], pipeOutput = false): Child {
    return new Child({
      name,
      command: [...containment(), ...command],
      logFile: join(this.#folder, `${name}.log`),
      environment: this.#environment,
      clearEnvironment: true,
      pipeOutput,
    });
  }

  async #output([program = "", ...args]: readonly string[], permitted: readonly number[] = [0]): Promise<string> {
    const { code, stdout, stderr } = await this.#command(program, args).output();
    const text = new TextDecoder();
    if (permitted.includes(code)) return text.decode(stdout);
    throw new Error(`Cannot run ${program} ${args.join(" ")}: ${code} ${text.decode(stderr)}`);
  }

  async #input([program = "", ...args]: readonly string[], input: string): Promise<void> {
    // It goes on in the background, to serve the clipboard, and would keep a pipe open.
    const options = { stdin: "piped", stdout: "null", stderr: "null" } as const;
    const child = this.#command(program, args, options).spawn();
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode(input));
    await writer.close();
    const { code } = await child.status;
    if (code !== 0) throw new Error(`Cannot run ${program} ${args.join(" ")}: ${code}`);
  }

  #command(program: string, args: string[], options: Deno.CommandOptions = { stdin: "null" }): Deno.Command {
    const signal = AbortSignal.timeout(commandMs);
    return new Deno.Command(program, { args, env: { ...this.#environment }, clearEnv: true, signal, ...options });
  }
}

function sameArea(one: Area, other: Area): boolean {
  return one.x === other.x && one.y === other.y && one.width === other.width && one.height === other.height;
}
