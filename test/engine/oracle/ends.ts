import { inBlock, isV6 } from './matching.ts'
import type { OracleFlow, OracleWorld, PlainHost, PlainPod, PlainWorkload } from './objects.ts'

/** Who the two ends of a flow are; `undefined` is nobody whom policies can select. */
export interface Ends {
  readonly source: PlainWorkload | undefined
  readonly destination: PlainWorkload | undefined
  /** The destination is a host's own, not something that lies behind the host. */
  readonly isDestinationItself: boolean
  /** No policy is asked. */
  readonly isExempt: boolean
  /** The source is a pod and the destination the node that it runs on. */
  readonly isToOwnNode: boolean
}

/** @param localNode the node that decides packets */
export function endsOf(world: OracleWorld, flow: OracleFlow, localNode: string): Ends {
  const thisHost = world.hosts.find(({ spec }) => spec.node === localNode)
  const source = (flow.hook === 'output' && thisHost) || ownerOf(world, flow.source)
  const itself = (flow.hook === 'input' && thisHost) || ownerOf(world, flow.destination)
  const destination = itself || hostBefore(world, flow, source, thisHost)
  // What is forwarded does not come from this machine, whatever address it carries.
  const isSpoofed = flow.hook === 'forward' && source !== undefined && source === thisHost
  const isToItself = source !== undefined && source === destination && !isSpoofed
  const isFromOwnNode = destination?.kind === 'Pod' && isItsNode(world, flow, 'source', source, destination, localNode)
  return {
    source,
    destination,
    isDestinationItself: itself !== undefined,
    isExempt: isNeverJudged(flow) || isToItself || isFromOwnNode,
    isToOwnNode: source?.kind === 'Pod' && isItsNode(world, flow, 'destination', destination, source, localNode),
  }
}

/** Neighbour discovery, MLD and path-MTU errors. */
function isNeverJudged({ protocol, source, icmpType, icmpCode }: OracleFlow): boolean {
  if (protocol !== 'ICMP') return false
  if (!isV6(source)) return icmpType === 3 && icmpCode === 4
  return [2, 130, 131, 132, 133, 134, 135, 136, 137, 143].includes(icmpType)
}

/**
 * The workload that owns an address: Running wins over Pending, then the younger; host-network and finished pods own none.
 * A host runs.
 */
function ownerOf({ pods, hosts }: OracleWorld, address: string): PlainWorkload | undefined {
  const podClaims = pods.filter(
    ({ spec, status }) =>
      spec.hostNetwork !== true &&
      status.phase !== 'Succeeded' &&
      status.phase !== 'Failed' &&
      status.podIPs?.some(({ ip }) => ip === address),
  )
  const running = podClaims.filter(({ status }) => status.phase === 'Running')
  const best = [...running, ...hosts.filter(({ spec }) => spec.addresses?.includes(address))]
  return (best.length > 0 ? best : podClaims).toSorted((a, b) =>
    a.metadata.creationTimestamp < b.metadata.creationTimestamp ? 1 : -1,
  )[0]
}

/**
 * The host that a destination lies behind. On its way a packet is forwarded by this machine or to nobody's account; what
 * the host itself sends there is not forwarded at all.
 */
function hostBefore(
  { hosts }: OracleWorld,
  { destination, hook }: OracleFlow,
  source: PlainWorkload | undefined,
  thisHost: PlainHost | undefined,
): PlainHost | undefined {
  if (hook === 'input' || hook === 'output') return undefined
  const asked = hook === 'forward' ? hosts.filter((host) => host === thisHost) : hosts
  const host = asked
    .flatMap((each) => (each.spec.forwards ?? []).map((block) => ({ each, block })))
    .filter(({ block }) => inBlock(destination, block))
    // The narrower block, and of equal ones the first host by name.
    .toSorted((a, b) => lengthOf(b.block) - lengthOf(a.block) || (nameOf(a.each) < nameOf(b.each) ? -1 : 1))[0]?.each
  return hook === 'none' && host === source ? undefined : host
}

function lengthOf(block: string): number {
  return Number(block.split('/')[1])
}

function nameOf({ metadata: { namespace, name } }: PlainHost): string {
  return `${namespace}/${name}`
}

/**
 * Whether an end that is no pod is the node that the pod runs on. Without a hook a node is known by its addresses; on a
 * hook, by being this machine.
 */
function isItsNode(
  world: OracleWorld,
  flow: OracleFlow,
  end: 'source' | 'destination',
  workload: PlainWorkload | undefined,
  pod: PlainPod,
  localNode: string,
): boolean {
  if (workload?.kind === 'Pod') return false
  const { nodeName } = pod.spec
  if (flow.hook !== 'none') {
    const isThisMachine = flow.hook === (end === 'source' ? 'output' : 'input')
    return isThisMachine && (nodeName === undefined || nodeName === localNode)
  }
  // Behind a host is not the host.
  if (workload) return ownerOf(world, flow[end]) === workload && workload.spec.node === nodeName
  const node = world.nodes.find(({ status }) => status.addresses.some(({ address }) => address === flow[end]))
  return node !== undefined && node.metadata.name === nodeName
}
