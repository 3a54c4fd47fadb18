/**
 * A copy of the operator whose JSON readers accept any value. The fuzz test must find its failures.
 *
 * @module
 */

import { join } from "node:path";
import { projectRoot } from "../operator_process.ts";

/** Signatures of the readers in lib/json.ts to replace, and their return types. */
const READERS = [
  ["object(value: unknown): Json", "Json"],
  ["list(value: unknown): readonly unknown[]", "unknown[]"],
] as const;

/** A copy of the program in its own folder, in which these readers only check that there is a value. */
export class CarelessCopy implements AsyncDisposable {
  private constructor(readonly root: string) {}

  static async make(): Promise<CarelessCopy> {
    const root = await Deno.makeTempDir({ prefix: "careless-" });
    const copy = new CarelessCopy(root);
    try {
      for (const name of ["main.ts", "conntest.ts", "deno.json", "deno.lock"]) {
        await Deno.copyFile(join(projectRoot, name), join(root, name));
      }
      await copyFolder(join(projectRoot, "lib"), join(root, "lib"));
      const path = join(root, "lib", "json.ts");
      let text = await Deno.readTextFile(path);
      for (const [signature, type] of READERS) {
        const head = `export function ${signature} {\n`;
        if (!text.includes(head)) throw new Error(`Cannot make a careless copy: lib/json.ts has no ${signature}`);
        text = text.replace(head, `${head}  if (value !== undefined) return value as ${type};\n`);
      }
      await Deno.writeTextFile(path, text);
      return copy;
    } catch (error) {
      await copy[Symbol.asyncDispose]();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.root, { recursive: true });
  }
}

async function copyFolder(from: string, to: string): Promise<void> {
  await Deno.mkdir(to);
  for await (const { name, isDirectory } of Deno.readDir(from)) {
    const copy = isDirectory ? copyFolder : Deno.copyFile;
    await copy(join(from, name), join(to, name));
  }
}
