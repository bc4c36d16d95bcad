import { type Address, type Block, parseAddress, parseBlock } from './address.ts'
import { type ObjectReader, readMetadata } from './object-reader.ts'
import {
  NAMESPACE_NAME_LABEL,
  type NamedPort,
  type Namespace,
  type NetworkSet,
  type Node,
  type Workload,
} from './objects.ts'
import { SCTP, TCP, UDP } from './packet.ts'

/** The protocols that the API's ports have, as IP protocol numbers. */
export const protocolNumbers = { TCP, UDP, SCTP } as const

const phases = ['Pending', 'Running', 'Succeeded', 'Failed', 'Unknown'] as const

/** A v1 Pod as workload; throws InvalidObject. Fields that policies do not need are not looked at. */
export function readPod(object: ObjectReader): Workload {
  const top = object.fields(['apiVersion', 'kind', 'metadata', 'spec', 'status'])
  const { ref, labels, createdMs } = readMetadata(object, 'Pod', 'Namespaced')
  const status = top('status').fields()
  const phase = status('phase').isPresent ? status('phase').oneOf(phases) : 'Running'
  const { node, hostNetwork, ports } = readPodSpec(top('spec'))
  const isFinished = phase === 'Succeeded' || phase === 'Failed'
  return {
    type: 'Workload',
    ref,
    isHost: false,
    namespace: ref.namespace!,
    name: ref.name,
    labels,
    node,
    hostNetwork,
    addresses: hostNetwork || isFinished ? [] : readPodAddresses(status),
    ports,
    forwards: [],
    phase,
    createdMs,
  }
}

/** A knp.dev/v1alpha1 HostEndpoint: a host in the policies' eyes; throws InvalidObject. */
export function readHostEndpoint(object: ObjectReader): Workload {
  const top = object.fields(['apiVersion', 'kind', 'metadata', 'spec'])
  const { ref, labels, createdMs } = readMetadata(object, 'HostEndpoint', 'Namespaced')
  const field = top('spec').fields(['node', 'addresses', 'forwards', 'ports'])
  if (!field('node').isPresent)
    top('spec').fail('node is missing: the name of the machine, as `knp run --node-name` has it')
  return {
    type: 'Workload',
    ref,
    isHost: true,
    namespace: ref.namespace!,
    name: ref.name,
    labels,
    node: field('node').string(),
    hostNetwork: false,
    addresses: field('addresses').items().map(readAddress),
    ports: field('ports').items().map(readHostPort),
    forwards: field('forwards').items().map(readBlock),
    phase: 'Running',
    createdMs,
  }
}

/** A knp.dev/v1alpha1 NetworkSet; throws InvalidObject. */
export function readNetworkSet(object: ObjectReader): NetworkSet {
  const top = object.fields(['apiVersion', 'kind', 'metadata', 'spec'])
  const { ref, labels } = readMetadata(object, 'NetworkSet', 'Namespaced')
  const networks = top('spec').fields(['networks'])('networks').items().map(readBlock)
  return { type: 'NetworkSet', ref, namespace: ref.namespace!, labels, networks }
}

/** What policies need of a pod's spec, or of a pod template's. */
export function readPodSpec(reader: ObjectReader): Pick<Workload, 'node' | 'hostNetwork' | 'ports'> {
  const spec = reader.fields()
  return {
    node: spec('nodeName').optionalString() || undefined,
    hostNetwork: spec('hostNetwork').optionalBoolean() ?? false,
    ports: readPorts(spec),
  }
}

/** A v1 Namespace; throws InvalidObject. */
export function readNamespace(object: ObjectReader): Namespace {
  object.fields(['apiVersion', 'kind', 'metadata', 'spec', 'status'])
  const { ref, labels } = readMetadata(object, 'Namespace', 'Cluster')
  return { type: 'Namespace', ref, name: ref.name, labels: labels.set(NAMESPACE_NAME_LABEL, ref.name) }
}

/** The namespace that exists because something is in it. */
export function impliedNamespace(name: string): Namespace {
  return { type: 'Namespace', ref: { kind: 'Namespace', name }, name, labels: new Map([[NAMESPACE_NAME_LABEL, name]]) }
}

/** A v1 Node; throws InvalidObject. Addresses that are host names are left out. */
export function readNode(object: ObjectReader): Node {
  const top = object.fields(['apiVersion', 'kind', 'metadata', 'spec', 'status'])
  const { ref, labels } = readMetadata(object, 'Node', 'Cluster')
  const addresses: Address[] = []
  for (const item of top('status').fields()('addresses').items()) {
    const field = item.fields(['type', 'address'])
    const type = field('type').string()
    if (type === 'InternalIP' || type === 'ExternalIP') addresses.push(readAddress(field('address')))
  }
  const podBlocks = readPodBlocks(top('spec').fields())
  return { type: 'Node', ref, name: ref.name, labels, addresses, ...(podBlocks.length > 0 && { podBlocks }) }
}

/** An IP address; throws InvalidObject. */
export function readAddress(reader: ObjectReader): Address {
  return parseAddress(reader.string()) ?? reader.fail(`"${reader.string()}" is no IP address`)
}

/** A CIDR; throws InvalidObject. */
export function readBlock(reader: ObjectReader): Block {
  return parseBlock(reader.string()) ?? reader.fail(`"${reader.string()}" is no CIDR such as 10.0.0.0/8 or fd00::/8`)
}

function readHostPort(item: ObjectReader): NamedPort {
  const field = item.fields(['name', 'port', 'protocol'])
  const protocol = field('protocol').isPresent ? field('protocol').oneOf(['TCP', 'UDP', 'SCTP']) : 'TCP'
  return { name: field('name').string(), protocol: protocolNumbers[protocol], port: field('port').integer(1, 65535) }
}

/** One for each family; older objects have one at all. */
function readPodBlocks(spec: (name: string) => ObjectReader): Block[] {
  const listed = spec('podCIDRs').items().map(readBlock)
  if (listed.length > 0) return listed
  const single = spec('podCIDR')
  return single.isPresent && single.value !== '' ? [readBlock(single)] : []
}

function readPodAddresses(status: (name: string) => ObjectReader): Address[] {
  const listed = status('podIPs')
    .items()
    .map((item) => readAddress(item.fields(['ip'])('ip')))
  if (listed.length > 0) return listed
  const single = status('podIP')
  return single.isPresent && single.value !== '' ? [readAddress(single)] : []
}

/** Ports of the containers and sidecars; other init containers are gone when the pod serves. */
function readPorts(spec: (name: string) => ObjectReader): NamedPort[] {
  const sidecars = spec('initContainers')
    .items()
    .filter((container) => container.fields()('restartPolicy').optionalString() === 'Always')
  const ports: NamedPort[] = []
  for (const container of [...spec('containers').items(), ...sidecars]) {
    for (const item of container.fields()('ports').items()) {
      const field = item.fields(['name', 'containerPort', 'protocol', 'hostPort', 'hostIP'])
      const port = field('containerPort').integer(1, 65535)
      const protocol = field('protocol').isPresent ? field('protocol').oneOf(['TCP', 'UDP', 'SCTP']) : 'TCP'
      const name = field('name').optionalString()
      if (name) ports.push({ name, protocol: protocolNumbers[protocol], port })
    }
  }
  return ports
}
