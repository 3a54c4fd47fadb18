/**
 * Gives a program the environment of a pod, without containers.
 *
 * @module
 */

/**
 * Command prefix for a program: it dies with us, and finds its ServiceAccount where a pod has it.
 *
 * @param serviceAccountFolder folder with `token`, `ca.crt` and `namespace`; undefined: not as in a pod
 */
export function containment(serviceAccountFolder?: string): [string, ...string[]] {
  const dieWithUs: [string, ...string[]] = ["setpriv", "--pdeathsig", "KILL", "--"];
  if (serviceAccountFolder === undefined) return dieWithUs;
  const mount = [
    "set -e",
    "run=$(readlink -f /var/run)",
    'mount -t tmpfs tmpfs "$run"',
    'mkdir -p "$run/secrets/kubernetes.io/serviceaccount"',
    'mount --bind "$0" "$run/secrets/kubernetes.io/serviceaccount"',
    'exec "$@"',
  ].join("\n");
  const unshare = ["unshare", Deno.uid() === 0 ? "-m" : "-rm"] as const;
  return [...unshare, "/bin/sh", "-c", mount, serviceAccountFolder, ...dieWithUs];
}
