import { existsSync } from 'node:fs'
import { CLUSTER_FOLDER, type Cluster, openCluster, startCluster, stopCluster } from './cluster.ts'
import { deployKnp, loadKnpImage } from './knp.ts'
import { Unsupported } from './programs.ts'

export interface PrepareOptions {
  /** `iptables` or `nftables`; of a cluster that is there already it stays what it is. */
  readonly kubeProxy: string
  /** Whether it is left there. One that was there before is. */
  readonly keep: boolean
  readonly say: (text: string) => void
}

/** Runs `use` on a cluster of two nodes with knp of the working tree, which is ended afterwards. */
export async function withCluster<Result>(
  { kubeProxy, keep, say }: PrepareOptions,
  use: (cluster: Cluster) => Promise<Result>,
): Promise<Result> {
  if (kubeProxy !== 'iptables' && kubeProxy !== 'nftables') {
    throw new Unsupported(`--kube-proxy ${kubeProxy}: not supported; iptables or nftables`)
  }
  const wasThere = existsSync(CLUSTER_FOLDER)
  try {
    const cluster = wasThere ? await openCluster() : await startCluster({ nodes: 2, kubeProxy }, say)
    say('making the image of the working tree')
    await loadKnpImage(cluster)
    // The image's name stays the same: pods that run would keep the former one.
    if (wasThere) await cluster.attemptKubectl(['-n', 'kube-system', 'rollout', 'restart', 'daemonset/knp'])
    say('waiting for knp on each node')
    await deployKnp(cluster)
    return await use(cluster)
  } finally {
    if (keep || wasThere) say('the cluster is still there; end it: npm run test:cluster -- --stop')
    else if (existsSync(CLUSTER_FOLDER)) await stopCluster()
  }
}

/** Ends with the status that `main` answers; with 1 where it throws, or the machine lacks something, which is named. */
export async function exitWith(name: string, main: () => Promise<number>): Promise<void> {
  try {
    process.exitCode = await main()
  } catch (error) {
    console.error(error instanceof Unsupported ? `${name} ${error.message}` : error)
    process.exitCode = 1
  }
}
