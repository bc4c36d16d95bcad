import { mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { attempt, run } from './command.ts'
import { PAUSE_IMAGE } from './image.ts'
import { endProcess, isRunning, startDaemon, succeeds, until } from './process.ts'
import type { Programs } from './programs.ts'

/** A node: namespaces of its own for network, files, processes and name. Ending its first process ends it all. */
export interface ClusterNode {
  readonly name: string
  readonly addresses: readonly [string, string]
  /** The first process of the node, as this machine numbers it. */
  readonly pid: number
  /** What it keeps on disk, and its logs. */
  readonly folder: string
}

export interface NodeSpec {
  readonly name: string
  /** From 1 on. */
  readonly number: number
  readonly addresses: readonly [string, string]
  readonly folder: string
  /** The network namespace with the bridge between the nodes. */
  readonly lan: string
}

export type KubeProxyMode = 'iptables' | 'nftables'

/** The node's own /run and /var: two kubelets, and two of what they start, must not meet in one folder. */
const firstProcess = `
set -e
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/lock /run/netns
for name in lib log; do mkdir -p "$0/var/$name"; mount --bind "$0/var/$name" "/var/$name"; done
mkdir -p /var/lib/kubelet
mount --bind /var/lib/kubelet /var/lib/kubelet
mount --make-rshared /var/lib/kubelet
hostname "$1"
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
exec "$2"
`

/** Makes a node with its link to the others; nothing runs in it yet. */
export async function createNode(programs: Programs, spec: NodeSpec): Promise<ClusterNode> {
  const { name, number, addresses, folder, lan } = spec
  await mkdir(join(folder, 'log'), { recursive: true })
  const unshare = startDaemon(
    [
      'unshare',
      '--net',
      '--mount',
      '--pid',
      '--uts',
      '--fork',
      '--kill-child',
      '--mount-proc',
      '--propagation',
      'private',
      'sh',
      '-c',
      firstProcess,
      folder,
      name,
      programs.path('pause'),
    ],
    join(folder, 'log/first-process'),
  )
  let pid = 0
  await until(`${name}: its first process`, async () => {
    pid = Number((await readFile(`/proc/${unshare}/task/${unshare}/children`, 'utf8')).trim())
    return pid > 0 && (await readFile(`/proc/${pid}/comm`, 'utf8')).trim() === 'pause'
  })
  const link = `node${number}`
  await run(['ip', '-n', lan, 'link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', String(pid)])
  await run(['ip', '-n', lan, 'link', 'set', link, 'master', 'lan', 'up'])
  const node: ClusterNode = { name, addresses, pid, folder }
  const commands = [
    'link set lo up',
    `addr add ${addresses[0]}/24 dev eth0`,
    `addr add ${addresses[1]}/64 dev eth0 nodad`,
    'link set eth0 up',
    // A way out that leads nowhere: programs ask for the address they would leave by.
    `route add default via ${addresses[0].replace(/\d+$/, '254')}`,
    `route add default via ${addresses[1].replace(/[0-9a-f]+$/, 'ffff')}`,
  ]
  await run(inNode(node, ['ip', '-batch', '-']), { input: `${commands.join('\n')}\n` })
  return node
}

/** A command line that runs inside the node. */
export function inNode(node: Pick<ClusterNode, 'pid'>, argv: readonly string[]): string[] {
  return ['nsenter', '--target', String(node.pid), '--net', '--mount', '--pid', '--uts', '--', ...argv]
}

/** A command line that runs in the node's network only; its process is the program itself. */
export function inNetworkOf(node: Pick<ClusterNode, 'pid'>, argv: readonly string[]): string[] {
  return ['nsenter', '--target', String(node.pid), '--net', '--', ...argv]
}

/** Starts containerd with the images of the archives, kubelet and kube-proxy. */
export async function startNode(
  programs: Programs,
  node: ClusterNode,
  credentials: { readonly authority: string; readonly kubelet: string; readonly proxy: string },
  options: { readonly archives: readonly string[]; readonly kubeProxy: KubeProxyMode },
): Promise<void> {
  const { name, folder } = node
  const daemon = (program: string, args: readonly string[]) =>
    startDaemon(inNode(node, [programs.path(program), ...args]), join(folder, 'log', program), {
      PATH: `${programs.path('')}:${process.env.PATH}:/usr/sbin:/sbin`,
    })
  await mkdir(join(folder, 'cni'), { recursive: true })
  await writeFile(join(folder, 'containerd.toml'), containerdConfig(folder))
  daemon('containerd', ['--config', join(folder, 'containerd.toml')])
  await until(`${name}: containerd`, () => succeeds(inNode(node, [programs.path('ctr'), 'version'])))
  for (const archive of options.archives) await loadImage(programs, node, archive)
  const kubelet = join(folder, 'kubelet.json')
  await writeFile(kubelet, JSON.stringify(kubeletConfig(credentials.authority, cgroupOf(name))))
  daemon('kubelet', [
    `--config=${kubelet}`,
    `--kubeconfig=${credentials.kubelet}`,
    `--hostname-override=${name}`,
    `--node-ip=${node.addresses.join(',')}`,
  ])
  const proxy = join(folder, 'kube-proxy.json')
  await writeFile(proxy, JSON.stringify(kubeProxyConfig(credentials.proxy, name, options.kubeProxy)))
  daemon('kube-proxy', [`--config=${proxy}`])
}

/** Lets pods get addresses of the networks that the cluster has given the node; until then it is not ready. */
export async function giveNetwork(node: ClusterNode, networks: readonly string[]): Promise<void> {
  const plugin = {
    type: 'ptp',
    ipMasq: false,
    ipam: {
      type: 'host-local',
      dataDir: '/run/cni-addresses',
      ranges: networks.map((subnet) => [{ subnet }]),
      routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
    },
  }
  const list = { cniVersion: '1.0.0', name: 'pods', plugins: [plugin] }
  await writeFile(join(node.folder, 'cni/10-pods.conflist'), JSON.stringify(list))
}

/** The way to pods of another node. */
export async function addRoute(node: ClusterNode, network: string, to: ClusterNode): Promise<void> {
  const gateway = to.addresses.find((address) => address.includes(':') === network.includes(':'))
  await run(inNode(node, ['ip', 'route', 'replace', network, 'via', gateway ?? '']))
}

/** Puts an image into the node's containerd. */
export async function loadImage(programs: Programs, node: ClusterNode, archive: string): Promise<void> {
  await run(inNode(node, [programs.path('ctr'), '-n', 'k8s.io', 'images', 'import', '--local', archive]))
}

/** Ends everything in the node, and what the kernel keeps of it outside. */
export async function endNode(node: Pick<ClusterNode, 'name' | 'pid' | 'folder'>): Promise<void> {
  const isNode = (await isRunning(node.pid)) && (await readFile(`/proc/${node.pid}/comm`, 'utf8')).trim() === 'pause'
  if (isNode) await endProcess(node.pid, 'SIGKILL')
  for (const controller of await readdir('/sys/fs/cgroup')) {
    await removeCgroups(join('/sys/fs/cgroup', controller, cgroupOf(node.name)))
  }
}

async function removeCgroups(folder: string): Promise<void> {
  const { stdout } = await attempt(['find', folder, '-depth', '-type', 'd'])
  for (const path of stdout.split('\n').filter(Boolean)) {
    // The last process has been killed; its group is busy until the kernel has let it go.
    await until(`${path}: to be empty`, () => rmdir(path).then(() => true), 10_000)
  }
}

function cgroupOf(name: string): string {
  return `/knp-cluster-${name}`
}

function containerdConfig(folder: string): string {
  return `version = 3
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "${PAUSE_IMAGE}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["/usr/lib/cni"]
  conf_dir = "${folder}/cni"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
    SystemdCgroup = false
`
}

function kubeletConfig(authority: string, cgroupRoot: string): object {
  return {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    authentication: { anonymous: { enabled: false }, webhook: { enabled: false }, x509: { clientCAFile: authority } },
    authorization: { mode: 'AlwaysAllow' },
    containerRuntimeEndpoint: 'unix:///run/containerd/containerd.sock',
    cgroupDriver: 'cgroupfs',
    cgroupRoot,
    // Neither this machine's cgroups nor its disk are the node's to divide.
    cgroupsPerQOS: false,
    enforceNodeAllocatable: [],
    failCgroupV1: false,
    failSwapOn: false,
    localStorageCapacityIsolation: false,
    evictionHard: {
      'memory.available': '0%',
      'nodefs.available': '0%',
      'nodefs.inodesFree': '0%',
      'imagefs.available': '0%',
    },
    imageGCHighThresholdPercent: 100,
    maxPods: 200,
    clusterDomain: 'cluster.local',
    clusterDNS: ['10.96.0.10'],
    nodeStatusUpdateFrequency: '5s',
  }
}

function kubeProxyConfig(kubeconfig: string, name: string, mode: KubeProxyMode): object {
  return {
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    kind: 'KubeProxyConfiguration',
    clientConnection: { kubeconfig },
    hostnameOverride: name,
    mode,
    clusterCIDR: POD_NETWORKS.join(','),
    // These are the whole machine's, and no namespace may set them.
    conntrack: { maxPerCore: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
  }
}

/** Of all nodes; each gets a part of them. */
export const POD_NETWORKS = ['10.244.0.0/16', 'fd00:10:244::/56'] as const
