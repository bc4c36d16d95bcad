import type { Delta } from '../engine/index.ts'
import { requireTrusted } from '../trusted-file.ts'
import { FilesSource } from './files.ts'
import type { ClusterChoice } from './kubernetes/access.ts'
import type { Source, SourceHealth } from './source.ts'

/**
 * Which source is meant: manifests in a file or in a folder with its sub-folders, or an API server. Paths are absolute, or
 * relative to the working directory.
 */
export type SourceChoice = { readonly files: { readonly path: string } } | { readonly kubernetes: ClusterChoice }

/**
 * The source, to be followed. Throws KnpError INVALID_CONFIG where others than root and the user could have written a
 * kubeconfig: it may name programs to run.
 * @param onHealth called when the source breaks, and when it is well again
 */
export async function openSource(choice: SourceChoice, onHealth: (health: SourceHealth) => void): Promise<Source> {
  if ('files' in choice) return new FilesSource(choice.files.path, onHealth)
  const { kubeconfig } = choice.kubernetes
  if (kubeconfig !== undefined) {
    const hint = 'name the file that kubectl uses with --kubeconfig'
    requireTrusted(kubeconfig, { name: 'a kubeconfig', hint })
  }
  const { KubernetesSource } = await import('./kubernetes/kubernetes.ts')
  const source = new KubernetesSource(choice.kubernetes, { onHealth })
  source.prepare()
  return source
}

/** What the source says, read once. Throws KnpError INVALID_MANIFEST, UNREADABLE_SOURCE, UNREACHABLE, API_REFUSED. */
export async function readSource(
  choice: SourceChoice,
): Promise<{ readonly name: string; readonly delta: Delta; readonly notes: readonly string[] }> {
  if ('kubernetes' in choice) {
    const { readKubernetes } = await import('./kubernetes/kubernetes.ts')
    return await readKubernetes(choice.kubernetes)
  }
  const source = new FilesSource(choice.files.path)
  const delta = await source.read()
  return { name: source.name, delta, notes: source.health().notes }
}
