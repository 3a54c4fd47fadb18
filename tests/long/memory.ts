/**
 * Tells what the program's memory is when asked by SIGUSR2, once its rubbish is gone: to be loaded before it, with
 * `--v8-flags=--expose-gc`.
 *
 * @module
 */

Deno.addSignalListener("SIGUSR2", () => {
  Reflect.get(globalThis, "gc")();
  const { rss, heapUsed, external } = Deno.memoryUsage();
  console.error(`memory ${JSON.stringify({ rss, heapUsed, external })}`);
});
