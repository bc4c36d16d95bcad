import { blockContains } from './address.ts'
import { type ObjectReader, readMetadata } from './object-reader.ts'
import type { PeerMatch, Policy, PortMatch, Rule } from './policy.ts'
import { readSelector } from './selector.ts'
import { protocolNumbers, readBlock } from './workload.ts'

/**
 * Reads a NetworkPolicy as the API server would: its defaulting (`defaults.go`) and validation (`validation.go`) of
 * networking/v1. Throws InvalidObject.
 */
export function readNetworkPolicy(object: ObjectReader): Policy {
  const top = object.fields(['apiVersion', 'kind', 'metadata', 'spec', 'status'])
  const { ref, isAudited } = readMetadata(object, 'NetworkPolicy', 'Namespaced')
  const spec = top('spec')
  if (!spec.isPresent) object.fail('spec is missing')
  const field = spec.fields(['podSelector', 'policyTypes', 'ingress', 'egress'])
  const ingress = field('ingress')
    .items()
    .map((rule) => readRule(rule, 'from'))
  const egress = field('egress')
    .items()
    .map((rule) => readRule(rule, 'to'))
  const listed = field('policyTypes')
    .items()
    .map((item) => item.oneOf(['Ingress', 'Egress']))
  const types = listed.length > 0 ? listed : egress.length > 0 ? ['Ingress', 'Egress'] : ['Ingress']
  return {
    type: 'Policy',
    ref,
    tier: 'NetworkPolicy',
    priority: 0,
    namespace: ref.namespace,
    subject: { namespaceSelector: undefined, podSelector: readSelector(field('podSelector')) },
    ingress: types.includes('Ingress') ? ingress : undefined,
    egress: types.includes('Egress') ? egress : undefined,
    isAudited,
    problems: [],
  }
}

function readRule(rule: ObjectReader, peersField: 'from' | 'to'): Rule {
  // A null rule is `- ` in YAML: nearly always a mistake, and it would allow everything.
  if (!rule.isPresent) rule.fail('empty rule; write {} to allow everything')
  const field = rule.fields([peersField, 'ports'])
  const ports = field('ports').items().map(readPort)
  const peers = field(peersField).items().map(readPeer)
  return {
    action: 'Accept',
    ports: ports.length > 0 ? ports : undefined,
    peers: peers.length > 0 ? peers : undefined,
  }
}

function readPort(item: ObjectReader): PortMatch {
  const field = item.fields(['protocol', 'port', 'endPort'])
  const protocol =
    protocolNumbers[field('protocol').isPresent ? field('protocol').oneOf(['TCP', 'UDP', 'SCTP']) : 'TCP']
  const port = field('port')
  const endPort = field('endPort')
  if (!port.isPresent) {
    if (endPort.isPresent) endPort.fail('endPort needs a port')
    return { protocol, first: 0, last: 65535 }
  }
  if (typeof port.value === 'string') {
    if (!/^(?=.*[a-z])[a-z0-9](?:-?[a-z0-9])*$/.test(port.value) || port.value.length > 15) {
      port.fail(`"${port.value}" is neither a number nor a valid port name`)
    }
    if (endPort.isPresent) endPort.fail('endPort needs a numeric port')
    return { protocol, first: 0, last: 0, portName: port.value }
  }
  const first = port.integer(1, 65535)
  const last = endPort.isPresent ? endPort.integer(1, 65535) : first
  if (last < first) endPort.fail(`endPort ${last} is below port ${first}`)
  return { protocol, first, last }
}

function readPeer(item: ObjectReader): PeerMatch {
  const field = item.fields(['podSelector', 'namespaceSelector', 'ipBlock'])
  const podSelector = field('podSelector')
  const namespaceSelector = field('namespaceSelector')
  const ipBlock = field('ipBlock')
  if (ipBlock.isPresent) {
    if (podSelector.isPresent || namespaceSelector.isPresent) item.fail('ipBlock cannot stand beside a selector')
    return readIPBlock(ipBlock)
  }
  if (!podSelector.isPresent && !namespaceSelector.isPresent) {
    item.fail('a peer needs podSelector, namespaceSelector or ipBlock; an empty selector is written {}')
  }
  return {
    type: 'pods',
    namespaceSelector: namespaceSelector.isPresent ? readSelector(namespaceSelector) : undefined,
    podSelector: readSelector(podSelector),
  }
}

function readIPBlock(reader: ObjectReader): PeerMatch {
  const field = reader.fields(['cidr', 'except'])
  if (!field('cidr').isPresent) reader.fail('cidr is missing')
  const cidr = readBlock(field('cidr'))
  const except = field('except')
    .items()
    .map((item) => {
      const block = readBlock(item)
      if (block.prefix <= cidr.prefix || !blockContains(cidr, block.address)) {
        item.fail(`"${item.string()}" is not a strict subset of ${field('cidr').string()}`)
      }
      return block
    })
  return { type: 'block', cidr, except }
}
