import { resolve } from 'node:path'
import { Flags } from '@oclif/core'
import { KnpError } from './errors.ts'
import type { SourceChoice } from './sources/open.ts'

/** As the value of --source: the API server. A file of this name is `./kubernetes`. */
const KUBERNETES = 'kubernetes'

/** Which cluster `--source kubernetes` is. */
export const clusterFlags = {
  kubeconfig: Flags.string({
    description: "with --source kubernetes: whose cluster; else kubectl's, or that of the pod this runs in",
    helpValue: 'PATH',
  }),
  context: Flags.string({
    description: "with --source kubernetes: one of the kubeconfig's contexts, where it is not the current one",
    helpValue: 'NAME',
  }),
}

/** What the flags of a command say of its sources. */
export interface SourceFlags {
  readonly source?: readonly string[] | undefined
  readonly kubeconfig?: string | undefined
  readonly context?: string | undefined
}

/**
 * The sources that flags name, each once.
 * Throws KnpError USAGE where a cluster is described that is not asked for.
 */
export function chooseSources({ source = [], kubeconfig, context }: SourceFlags): SourceChoice[] {
  if (!source.includes(KUBERNETES) && (kubeconfig !== undefined || context !== undefined)) {
    const flag = kubeconfig === undefined ? '--context' : '--kubeconfig'
    throw new KnpError('USAGE', `${flag}: says which cluster, and no cluster is asked for`, {
      hint: 'add --source kubernetes',
    })
  }
  return [...new Set(source)].map((name) => {
    if (name !== KUBERNETES) return { files: { path: name } }
    return {
      kubernetes: {
        ...(kubeconfig !== undefined && { kubeconfig: resolve(kubeconfig) }),
        ...(context !== undefined && { context }),
      },
    }
  })
}
