/**
 * Parses the Containerfile: what the image contains and how it is run. Supports only the instructions that ours uses,
 * and rejects all others, so that nothing in it goes unnoticed.
 *
 * @module
 */

/** A file or folder copied from an earlier stage. */
export interface Copy {
  /** Path in the earlier stage. */
  readonly from: string;
  /** Path in the image. */
  readonly to: string;
  /** Owner as `user:group`, both numeric. */
  readonly owner: string;
}

/** The image, from the last stage, and its build, from the stage before. */
export interface Image {
  /** Base image, with its digest. */
  readonly base: string;
  /** Files copied into it. */
  readonly copies: readonly Copy[];
  /** User as `user:group`, both numeric. */
  readonly user: string;
  /** Working directory. */
  readonly folder: string;
  /** Environment variables. */
  readonly environment: Readonly<Record<string, string>>;
  /** Exposed ports. */
  readonly ports: readonly number[];
  /** Entrypoint: program and arguments. */
  readonly entrypoint: readonly string[];
  /** Labels. */
  readonly labels: Readonly<Record<string, string>>;
  /** The project's files and folders that the build copies. */
  readonly sources: readonly string[];
  /** Output path of the task `compile` in the build. */
  readonly executable: string;
}

/**
 * Parses a Containerfile.
 *
 * @throws Error naming the line that isn't supported, or what is missing
 */
export function readContainerfile(text: string): Image {
  const stages: [name: string, args: string][][] = [];
  const lines = text.replace(/^\s*#.*\n/gm, "").replace(/\\\n\s*/g, "").split("\n").filter((line) =>
    line.trim() !== ""
  );
  for (const line of lines) {
    const [, name = "", args = ""] = /^([A-Z]+) +(.*)$/.exec(line) ?? [];
    if (name === "FROM") stages.push([]);
    if (!/^(FROM|ARG|LABEL|COPY|USER|WORKDIR|ENV|EXPOSE|ENTRYPOINT|RUN)$/.test(name) || stages.length === 0) {
      throw new Error(`Cannot read the Containerfile: what is "${line}"?`);
    }
    stages.at(-1)?.push([name, args.trim()]);
  }
  const [build = [], image = []] = stages;
  const all = (stage: [string, string][], wanted: string) =>
    stage.filter(([name]) => name === wanted).map(([, args]) => args);
  const one = (wanted: string) => {
    const [args, ...more] = all(image, wanted);
    if (args === undefined || more.length > 0) throw new Error(`Cannot read the Containerfile: not one ${wanted}`);
    return args;
  };
  const executable = all(build, "RUN").map((args) => /\bdeno@[\d.]+ task compile .*--output (\S+)$/.exec(args)?.[1]);
  if (stages.length !== 2 || executable.length !== 1 || executable[0] === undefined) {
    throw new Error(
      "Cannot read the Containerfile: there are to be two stages, of which the first ends in one compile",
    );
  }
  if (all(image, "RUN").length > 0) throw new Error("Cannot read the Containerfile: nothing can run in its last stage");
  return {
    base: one("FROM"),
    copies: all(image, "COPY").map(readCopy),
    user: matched(one("USER"), /^\d+:\d+$/),
    folder: one("WORKDIR"),
    environment: Object.assign({}, ...all(image, "ENV").map(pairs)),
    ports: all(image, "EXPOSE").map(Number),
    entrypoint: JSON.parse(one("ENTRYPOINT")),
    labels: Object.assign({}, ...all(image, "LABEL").map(pairs)),
    sources: all(build, "COPY").flatMap((args) => args.split(/ +/).slice(0, -1)),
    executable: executable[0],
  };
}

function readCopy(args: string): Copy {
  const match = /^--from=build (?:--chown=(\d+:\d+) )?(\/\S+) (\/\S+)$/.exec(args);
  if (match === null) throw new Error(`Cannot read the Containerfile: what is "COPY ${args}"?`);
  const [, owner = "0:0", from = "", to = ""] = match;
  return { from, to, owner };
}

function pairs(args: string): Record<string, string> {
  const found = [...args.matchAll(/([\w.]+)=(?:"([^"]*)"|(\S+))/g)];
  return Object.fromEntries(found.map(([, name = "", quoted, plain]) => [name, quoted ?? plain ?? ""]));
}

function matched(text: string, pattern: RegExp): string {
  if (pattern.test(text)) return text;
  throw new Error(`Cannot read the Containerfile: "${text}" is not of the form ${pattern.source}`);
}
