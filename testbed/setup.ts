/**
 * Sets up what the testbed needs on this machine: Python environments with Synapse and matrix-nio and others on
 * request, the control plane built from its Go sources, and Keycloak. They are created under `.cache/testbed`, and
 * again whenever their inputs change: `requirements.txt` pins everything from PyPI, `kubernetes/go.mod` everything from
 * Go's module proxy.
 *
 * @module
 */

import { basename, join } from "node:path";

const here = import.meta.dirname ?? ".";

/** Folder of all the testbed's files. Ignored by git. */
export const cacheFolder: string = join(here, "..", ".cache", "testbed");

const requirements = join(here, "requirements.txt");
const sources = join(here, "kubernetes");

/** Version of Keycloak's distribution, fetched by Maven. */
const keycloakVersion = "26.4.0";

/** Oldest Java that this Keycloak supports. */
const oldestJava = 17;

/** Oldest Python that the pinned packages support. */
const oldestPython = [3, 11];

/** The tools, ready for use. */
export interface Tools {
  /** Interpreter of a Python environment with the packages of `requirements.txt`. */
  readonly python: string;
  /** Path of the control plane; undefined unless requested. */
  readonly controlPlane: string | undefined;
  /** Keycloak; undefined unless requested. */
  readonly keycloak: KeycloakTools | undefined;
}

/** What Keycloak and a homeserver that uses it need. */
export interface KeycloakTools {
  /** Folder of Keycloak's distribution. */
  readonly distribution: string;
  /** Folder of additional Python modules for Synapse. */
  readonly modules: string;
}

/**
 * Creates what is missing. Checks for Python, Go and Java first, because the rest takes minutes.
 *
 * @param options `controlPlane`, `keycloak`: whether it is needed too
 * @throws Error if there is no suitable Python, Go, Java or Maven, or an installation or build fails
 */
export async function setUp(options: { controlPlane: boolean; keycloak?: boolean }): Promise<Tools> {
  const python = await findPython();
  if (options.keycloak) await findJava();
  const program = options.controlPlane ? await programPath() : undefined;
  if (program && !(await exists(program))) {
    await run("find Go (the control plane is built with it: https://go.dev/dl)", ["go", "version"]);
  }
  const interpreter = await pythonEnvironment(requirements, ["--only-binary", ":all:"], python);
  if (program && !(await exists(program))) {
    await buildOnce(program, "Kubernetes control plane (minutes the first time)", async (path) => {
      await run("build the control plane", [join(sources, "build.sh"), path]);
    });
  }
  const keycloak = options.keycloak ? await setUpKeycloak(python) : undefined;
  return { python: interpreter, controlPlane: program, keycloak };
}

async function setUpKeycloak(python: Python): Promise<KeycloakTools> {
  const distribution = join(cacheFolder, `keycloak-${keycloakVersion}`);
  if (!(await exists(distribution))) {
    await run("find Maven, which fetches Keycloak (on Debian and Ubuntu: apt install maven)", ["mvn", "--version"]);
    await buildOnce(distribution, "Keycloak distribution", unpackKeycloak);
  }
  const required = join(here, "keycloak", "requirements.txt");
  const interpreter = await pythonEnvironment(required, ["--no-deps", "--only-binary", ":all:"], python);
  const question = "import sysconfig; print(sysconfig.get_path('purelib'), end='')";
  return { distribution, modules: (await output([interpreter, "-c", question])).stdout };
}

async function unpackKeycloak(folder: string): Promise<void> {
  const name = "keycloak-quarkus-dist";
  await Deno.mkdir(folder);
  await run("fetch Keycloak", [
    ...["mvn", "--quiet", "--batch-mode", "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"],
    ...[`-Dartifact=org.keycloak:${name}:${keycloakVersion}:tar.gz`, `-DoutputDirectory=${folder}`],
  ]);
  const archive = join(folder, `${name}-${keycloakVersion}.tar.gz`);
  await run("unpack Keycloak", ["tar", "-xzf", archive, "-C", folder, "--strip-components=1"]);
  await Deno.remove(archive);
}

async function findJava(): Promise<void> {
  const { stderr } = await output(["java", "-version"]);
  const version = /version "(\d+)/.exec(stderr)?.[1];
  if (Number(version ?? 0) >= oldestJava) return;
  const found = version === undefined ? "there is none" : `this is ${version}`;
  throw new Error(
    `Cannot set up Keycloak: it needs Java ${oldestJava} or newer, and ${found} (on Debian and Ubuntu: ` +
      "apt install default-jre-headless)",
  );
}

/**
 * Creates a Python environment with the required packages, if necessary.
 *
 * @param requirements file with pinned packages
 * @param pipOptions options of `pip install`
 * @param python interpreter to create it with; by default the first suitable one
 * @returns its interpreter
 * @throws Error if there is no suitable Python, or the installation fails
 */
export async function pythonEnvironment(
  requirements: string,
  pipOptions: readonly string[],
  python?: Python,
): Promise<string> {
  const { path, version } = python ?? await findPython();
  const folder = join(cacheFolder, `python-${await digest([requirements], version)}`);
  const interpreter = join(folder, "bin", "python");
  if (!(await exists(interpreter))) {
    await buildOnce(folder, `Python environment of ${basename(requirements)}`, async (unfinished) => {
      await run("make a Python environment (on Debian and Ubuntu: apt install python3-venv)", [
        ...[path, "-m", "venv", unfinished],
      ]);
      await run("install the Python packages", [
        ...[join(unfinished, "bin", "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"],
        ...[...pipOptions, "-r", requirements],
      ]);
    });
  }
  return interpreter;
}

/** A Python interpreter and its version. */
interface Python {
  readonly path: string;
  readonly version: string;
}

/** The name contains a digest of the sources. */
async function programPath(): Promise<string> {
  const files = [];
  for await (const { name } of Deno.readDir(sources)) {
    if (/\.go$|^go\.(mod|sum)$|^build\.sh$/.test(name)) files.push(join(sources, name));
  }
  return join(cacheFolder, `kube-testbed-${await digest(files.sort())}`);
}

async function findPython(): Promise<Python> {
  const seen: string[] = [];
  for (const path of ["python3", "python3.13", "python3.12", "python3.11"]) {
    const question = "import sys; print('%d.%d.%d' % sys.version_info[:3])";
    const { code, stdout } = await output([path, "-c", question]);
    if (code !== 0) continue;
    const version = stdout.trim();
    const [major = 0, minor = 0] = version.split(".").map(Number);
    if (major === oldestPython[0] && minor >= (oldestPython[1] ?? 0)) return { path, version };
    seen.push(`${path} is ${version}`);
  }
  const found = seen.length > 0 ? seen.join(", ") : "there is none";
  throw new Error(`Cannot set up the testbed: it needs Python ${oldestPython.join(".")} or newer, and ${found}`);
}

/** Creates a file or folder under a temporary name and then renames it, so that what has the final name is complete. */
export async function buildOnce(
  path: string,
  what: string,
  make: (unfinished: string) => Promise<void>,
): Promise<void> {
  await Deno.mkdir(cacheFolder, { recursive: true });
  const begin = performance.now();
  console.error(`testbed: making the ${what} …`);
  const unfinished = `${path}.${Deno.pid}.unfinished`;
  try {
    await make(unfinished);
    await Deno.rename(unfinished, path);
  } catch (error) {
    if (await exists(unfinished)) await Deno.remove(unfinished, { recursive: true });
    if (!(await exists(path))) throw error; // else another process was faster
  }
  console.error(`testbed: made it in ${((performance.now() - begin) / 1000).toFixed(1)} s`);
}

/** Runs a program to its end. Throws with all of its output if it fails. */
export async function run(
  what: string,
  command: readonly string[],
  environment: Record<string, string> = {},
): Promise<void> {
  const { code, stdout, stderr } = await output(command, environment);
  if (code !== 0) throw new Error(`Cannot ${what}: ${command.join(" ")}\n${stdout}${stderr}`);
}

async function output(
  command: readonly string[],
  env: Record<string, string> = {},
): Promise<{ code: number; stdout: string; stderr: string }> {
  const [program = "", ...args] = command;
  try {
    const { code, stdout, stderr } = await new Deno.Command(program, { args, env, stdin: "null" }).output();
    const text = new TextDecoder();
    return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return { code: 127, stdout: "", stderr: `${program}: not found` };
    throw error;
  }
}

/** Digest of files and strings, for use in a name. */
export async function digest(files: readonly string[], ...more: readonly string[]): Promise<string> {
  const contents = await Promise.all(files.map((file) => Deno.readTextFile(file)));
  const bytes = new TextEncoder().encode(JSON.stringify([contents, more]));
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return hash.toHex().slice(0, 16);
}

/** Whether a file or folder exists. */
export async function exists(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, (error) => {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  });
}
