import { existsSync } from 'node:fs'
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { attempt, type CommandOptions, type CommandResult, run } from './command.ts'
import {
  API_ADDRESS,
  type ControlPlane,
  createCredentials,
  endControlPlane,
  forgetHistory,
  inNamespace,
  startApiServer,
  startControllers,
  startEtcd,
} from './control-plane.ts'
import { archivePauseImage, archivePodImage } from './image.ts'
import {
  addRoute,
  type ClusterNode,
  createNode,
  endNode,
  giveNetwork,
  inNode,
  type KubeProxyMode,
  loadImage,
  startNode,
} from './node.ts'
import { endProcess, until } from './process.ts'
import { findPrograms, type Programs } from './programs.ts'

/** Where the running cluster keeps everything; there is one at a time. */
export const CLUSTER_FOLDER = process.env.KNP_CLUSTER || '/tmp/knp-cluster'

/** Its network namespace: the nodes' network, and the machine of the control plane. */
const LAN = 'knpc-lan'

export interface ClusterSpec {
  readonly nodes: number
  readonly kubeProxy: KubeProxyMode
}

/** A command line that runs on the network of the nodes, but on none of them. */
export function inLan(argv: readonly string[]): string[] {
  return inNamespace(LAN, argv)
}

/** What another process needs to know of a running cluster. */
interface State extends ClusterSpec {
  readonly members: readonly ClusterNode[]
  /** Process ids: etcd, controllers. */
  readonly controllers: readonly number[]
  readonly apiServer?: number
}

/** A running cluster. */
export interface Cluster extends ClusterSpec {
  readonly members: readonly ClusterNode[]
  readonly kubeconfig: string
  /** Runs kubectl as administrator; a failure is a result. */
  attemptKubectl(args: readonly string[], options?: CommandOptions): Promise<CommandResult>
  /** Runs kubectl as administrator; it must succeed. Answers its output. */
  kubectl(args: readonly string[], options?: CommandOptions): Promise<string>
  /** Runs a program on the network of the nodes, but on none of them. */
  exec(argv: readonly string[], options?: CommandOptions): Promise<CommandResult>
  /** Runs a program on a node. */
  execOn(node: ClusterNode, argv: readonly string[], options?: CommandOptions): Promise<CommandResult>
  /** Puts an image into every node. */
  load(archive: string): Promise<void>
  /** Kills the API server, as a crash does. */
  killApiServer(): Promise<void>
  /** Starts it again on what etcd has kept. */
  startApiServer(): Promise<void>
  /** While the usual API server is away: does something by another one that nobody else knows of. */
  behindTheBack(act: (kubectl: Cluster['kubectl']) => Promise<void>): Promise<void>
  /** Makes etcd forget all versions but the latest. */
  forgetHistory(): Promise<void>
  readonly programs: Programs
}

/** Builds what is missing and starts a cluster. One that is there already is an error. */
export async function startCluster(spec: ClusterSpec, say: (text: string) => void): Promise<Cluster> {
  if (existsSync(CLUSTER_FOLDER)) {
    throw new Error(`${CLUSTER_FOLDER}: a cluster is there already; stop it: npm run test:cluster -- --stop`)
  }
  const programs = await findPrograms(say)
  say(`starting ${spec.nodes} nodes, kube-proxy with ${spec.kubeProxy}`)
  const plane: ControlPlane = { folder: CLUSTER_FOLDER, namespace: LAN }
  const names = Array.from({ length: spec.nodes }, (_, index) => `node${index + 1}`)
  await mkdir(CLUSTER_FOLDER)
  await createCredentials(CLUSTER_FOLDER, names)
  let state: State = { ...spec, members: [], controllers: [] }
  const remember = async (news: Partial<State>) => {
    state = { ...state, ...news }
    await writeState(state)
  }
  await run(['ip', 'netns', 'add', LAN])
  const commands = [
    'link set lo up',
    'link add lan type bridge',
    `addr add ${API_ADDRESS}/24 dev lan`,
    'addr add fd99::100/64 dev lan nodad',
    'link set lan up',
    'route add default via 10.99.0.254',
  ]
  await run(['ip', '-n', LAN, '-batch', '-'], { input: `${commands.join('\n')}\n` })
  await remember({ controllers: [startEtcd(programs, plane)] })
  await remember({ apiServer: await startApiServer(programs, plane) })
  await remember({ controllers: [...state.controllers, ...startControllers(programs, plane)] })
  const archives = ['pause', 'pod'].map((name) => join(CLUSTER_FOLDER, `${name}.tar`))
  await archivePauseImage(programs, archives[0]!)
  await archivePodImage(programs, archives[1]!)
  const cluster = clusterOf(programs, () => state, remember)
  await cluster.kubectl(['apply', '--server-side', ...programs.definitions.flatMap((path) => ['-f', path])])
  for (const [index, name] of names.entries()) {
    const number = index + 1
    const folder = join(CLUSTER_FOLDER, name)
    const addresses = [`10.99.0.${number}`, `fd99::${number}`] as const
    const node = await createNode(programs, { name, number, addresses, folder, lan: LAN })
    await remember({ members: [...state.members, node] })
  }
  const credential = (name: string) => join(CLUSTER_FOLDER, `${name}.kubeconfig`)
  const authority = join(CLUSTER_FOLDER, 'pki/ca.crt')
  for (const node of state.members) {
    const credentials = { authority, kubelet: credential(node.name), proxy: credential('kube-proxy') }
    await startNode(programs, node, credentials, { archives, kubeProxy: spec.kubeProxy })
  }
  for (const node of state.members) await connect(cluster, node)
  if (spec.nodes > 0) {
    await cluster.kubectl(['wait', '--for=condition=Ready', 'node', '--all', '--timeout=120s'])
  }
  await until('the default service account', () =>
    cluster.kubectl(['-n', 'default', 'get', 'serviceaccount', 'default']).then(() => true),
  )
  return cluster
}

/** The cluster that another process has started. */
export async function openCluster(): Promise<Cluster> {
  let state = await readState()
  if (state === undefined) throw new Error(`${CLUSTER_FOLDER}: no cluster is running there`)
  const programs = await findPrograms(() => {})
  return clusterOf(
    programs,
    () => state!,
    async (news) => {
      state = { ...state!, ...news }
      await writeState(state)
    },
  )
}

/** Ends the cluster, whoever has started it, and removes all that it has left. */
export async function stopCluster(): Promise<void> {
  const state = await readState()
  if (state !== undefined) {
    const { members, controllers, apiServer } = state
    await Promise.all(members.map((node) => endNode(node)))
    await endControlPlane([...controllers, ...(apiServer === undefined ? [] : [apiServer])])
  }
  if (existsSync(`/run/netns/${LAN}`)) await run(['ip', 'netns', 'delete', LAN])
  await rm(CLUSTER_FOLDER, { recursive: true, force: true })
}

function clusterOf(programs: Programs, state: () => State, remember: (news: Partial<State>) => Promise<void>): Cluster {
  const plane: ControlPlane = { folder: CLUSTER_FOLDER, namespace: LAN }
  const kubeconfig = join(CLUSTER_FOLDER, 'admin.kubeconfig')
  const command = (args: readonly string[]) =>
    inNamespace(LAN, [programs.path('kubectl'), '--kubeconfig', kubeconfig, ...args])
  const cluster: Cluster = {
    programs,
    kubeconfig,
    nodes: state().nodes,
    kubeProxy: state().kubeProxy,
    get members() {
      return state().members
    },
    attemptKubectl: (args, options) => attempt(command(args), options),
    kubectl: (args, options) => run(command(args), options),
    exec: (argv, options) => attempt(inNamespace(LAN, argv), options),
    execOn: (node, argv, options) => attempt(inNode(node, argv), options),
    async load(archive) {
      for (const node of state().members) await loadImage(programs, node, archive)
    },
    async killApiServer() {
      const { apiServer } = state()
      if (apiServer !== undefined) await endProcess(apiServer, 'SIGKILL')
    },
    async startApiServer() {
      await remember({ apiServer: await startApiServer(programs, plane) })
    },
    async behindTheBack(act) {
      const port = 7443
      const pid = await startApiServer(programs, plane, port)
      try {
        await act((args, options) => run(command(['--server', `https://${API_ADDRESS}:${port}`, ...args]), options))
      } finally {
        await endProcess(pid, 'SIGKILL')
      }
    },
    forgetHistory: () => forgetHistory(plane),
  }
  return cluster
}

/** Gives the node's pods the networks that the cluster has chosen for it, and the other nodes the way there. */
async function connect(cluster: Cluster, node: ClusterNode): Promise<void> {
  let networks: readonly string[] = []
  await until(`${node.name}: its networks`, async () => {
    const answer: unknown = JSON.parse(await cluster.kubectl(['get', 'node', node.name, '-o', 'json']))
    const { spec } = answer as { readonly spec: { readonly podCIDRs?: readonly string[] } }
    networks = spec.podCIDRs ?? []
    return networks.length > 0
  })
  await giveNetwork(node, networks)
  for (const other of cluster.members) {
    if (other !== node) for (const network of networks) await addRoute(other, network, node)
  }
}

async function readState(): Promise<State | undefined> {
  try {
    return JSON.parse(await readFile(join(CLUSTER_FOLDER, 'state.json'), 'utf8'))
  } catch {
    return undefined
  }
}

async function writeState(state: State): Promise<void> {
  const path = join(CLUSTER_FOLDER, 'state.json')
  await writeFile(`${path}.new`, JSON.stringify(state))
  await rename(`${path}.new`, path)
}
