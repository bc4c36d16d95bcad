import { type Address, type Block, blockContains, blockOf, formatAddress, formatBlock, isIPv4 } from './address.ts'
import type { NearestChange, NearestMiss } from './evaluator.ts'
import { type FlowFacts, matchesPeer, matchesPorts, matchesRule, portsByName } from './flow-facts.ts'
import { type Labels, NAMESPACE_NAME_LABEL, type NetworkSet, refName } from './objects.ts'
import { ANY_PROTOCOL, type PeerMatch, type Policy, type PortMatch, type Rule } from './policy.ts'
import { formatPort, protocolName } from './protocol.ts'
import { formatRequirement, isMet, type Requirement, selects } from './selector.ts'

/** A flow that a tier denied. */
export interface Denied {
  readonly facts: FlowFacts
  /** The same flow with the other end at another address, whoever has that. */
  at(address: Address): FlowFacts
  /** Whether the tier would let such a flow through. */
  letsThrough(facts: FlowFacts): boolean
}

/** A rule that would let it through if it matched. */
export interface Candidate {
  readonly policy: Policy
  readonly rule: Rule
  readonly index: number
}

/** The rule that came closest, and whether one change is all that it takes. */
export interface Miss {
  readonly nearest: NearestMiss
  readonly isNear: boolean
}

/** One thing that could be different, and the flow with that difference. */
interface Step {
  readonly change: NearestChange
  apply(facts: FlowFacts): FlowFacts
}

/** What keeps a part of a rule from matching. */
interface Difference {
  readonly text: string
  /** How far it is: between differences of as many steps, the smaller is the nearer. */
  readonly cost: number
  /** What would have to change; `undefined` where changing the flow's ends does not help. */
  readonly steps: readonly Step[] | undefined
}

/** Ways to one rule. */
interface Way extends Difference {
  readonly candidate: Candidate
}

/**
 * Costs. A rule for the port that was asked for, and other peers, is what people look for first: somebody is missing there.
 * Then comes a rule for this very peer on another port, before one that opens that port to everybody. Namespaces and
 * addresses change least easily.
 */
const ADDED_LABEL = 1
const OTHER_LABEL = 1.5
const OTHER_PORT = 2
const OTHER_PROTOCOL = 2.5
const OTHER_SERVICE = 4
const ADDED_NAMESPACE_LABEL = 4
const OTHER_NAMESPACE_LABEL = 5
const FOR_EVERYBODY = 2
const EXCEPTED = 6
const OTHER_ADDRESS = 7
/** What stands for the steps of a difference that has none. */
const NO_WAY = 3

/** More ports than that are counted, not listed. */
const MOST_PORTS = 4
/** How many addresses of a block are looked at for one that nobody has. */
const MOST_SAMPLES = 16

/**
 * The rule that came closest to letting the flow through. It is near where one change is enough: the rule then matches, and
 * the tier would let the flow through. Else the change is `allow`. `undefined` where no rule is there to come close.
 */
export function findMiss(denied: Denied, candidates: readonly Candidate[]): Miss | undefined {
  const near: Way[] = []
  let far: (Way & { readonly distance: number }) | undefined
  for (const candidate of candidates) {
    if (candidate.rule.action === 'Deny' || candidate.rule.failsClosed !== undefined) continue
    for (const way of waysTo(denied, candidate)) {
      const distance = (way.steps?.length ?? NO_WAY) * 100 + way.cost
      if (way.steps?.length === 1) near.push(way)
      if (far === undefined || distance < far.distance) far = { ...way, distance }
    }
  }
  near.sort((a, b) => a.cost - b.cost)
  const best = near.find(({ candidate: { policy, rule }, steps }) => {
    const facts = steps![0]!.apply(denied.facts)
    return matchesRule(facts, policy, rule) && denied.letsThrough(facts)
  })
  if (best) return { nearest: missOf(best, best.steps![0]!.change), isNear: true }
  return far && { nearest: missOf(far, { type: 'allow' }), isNear: false }
}

function missOf({ candidate: { policy, index }, text }: Way, change: NearestChange): NearestMiss {
  return { policy: policy.ref, rule: index, difference: text, change }
}

/** What is different between the flow and a rule: each way to bring them together. */
function waysTo({ facts, at }: Denied, candidate: Candidate): Way[] {
  const { policy, rule, index } = candidate
  const ports = portDifferences(facts, policy, rule)
  const peers = peerDifferences(facts, policy, rule, at)
  const asked = formatPort(facts.protocol, facts.port)
  const subject = `rule ${index}${rule.name === undefined ? '' : ` "${rule.name}"`} ${rule.action === 'Pass' ? 'passes' : 'allows'}`
  if (ports && peers) {
    const [port] = ports
    return peers.map((peer) => ({
      candidate,
      text: `${subject} ${port!.text}, not ${asked}, and ${peer.text}`,
      cost: port!.cost + peer.cost,
      steps: port!.steps && peer.steps && [...port!.steps, ...peer.steps],
    }))
  }
  if (ports) {
    return ports.map((port) => ({ ...port, candidate, text: `${subject} this peer on ${port.text}, not on ${asked}` }))
  }
  return (peers ?? []).map((peer) => ({ ...peer, candidate, text: `${subject} ${asked}, ${peer.text}` }))
}

/** `undefined`: the ports match; else the nearest first. */
function portDifferences(facts: FlowFacts, policy: Policy, { ports, peers }: Rule): Difference[] | undefined {
  if (!ports || matchesPorts(facts, ports)) return undefined
  const text = portsText(facts, ports)
  const isForEverybody = !peers?.some((peer) => matchesPeer(facts, policy, peer) && isPeerOfItsOwn(peer))
  const open = ports.flatMap((match) => openPorts(facts, match))
  if (open.length === 0) return [{ text, cost: OTHER_SERVICE, steps: undefined }]
  return open
    .map(({ protocol, port }): Difference => {
      const step: Step = {
        change: { type: 'port', protocol, port },
        apply: (before) => ({ ...before, protocol, port }),
      }
      const cost = portCost(facts, protocol, port) + (isForEverybody ? FOR_EVERYBODY : 0)
      return { text, cost, steps: [step] }
    })
    .sort((a, b) => a.cost - b.cost)
}

function portCost(facts: FlowFacts, protocol: number, port: number): number {
  if (protocol === facts.protocol) return OTHER_PORT
  return port === facts.port ? OTHER_PROTOCOL : OTHER_SERVICE
}

/** Whether a peer is told from others at all. */
function isPeerOfItsOwn(peer: PeerMatch): boolean {
  switch (peer.type) {
    case 'pods':
      return peer.podSelector.requirements.length + (peer.namespaceSelector?.requirements.length ?? 0) > 0
    case 'block':
      return peer.cidr.prefix > (isIPv4(peer.cidr.address) ? 96 : 0)
    default:
      return true
  }
}

/** Ports that a match takes: of a range the one that is nearest to what was asked for, and its ends. */
function openPorts(facts: FlowFacts, match: PortMatch): { protocol: number; port: number }[] {
  if (match.portName !== undefined) return portsByName(facts, match)
  const { protocol, last } = match
  const first = Math.max(1, match.first)
  return [...new Set([Math.min(Math.max(facts.port, first), last), first, last])].map((port) => ({ protocol, port }))
}

function portsText(facts: FlowFacts, ports: readonly PortMatch[]): string {
  const shown = ports.slice(0, MOST_PORTS).map((match) => portText(facts, match))
  if (ports.length > MOST_PORTS) shown.push(`and ${ports.length - MOST_PORTS} more`)
  return shown.join(', ')
}

function portText(facts: FlowFacts, match: PortMatch): string {
  const { protocol, first, last, portName } = match
  if (portName !== undefined) {
    const known = portsByName(facts, match).map(({ port }) => port)
    const meant = known.length > 0 ? known.join(', ') : 'no port of the destination'
    return `port "${portName}"${protocol === ANY_PROTOCOL ? '' : `/${protocolName(protocol)}`} (${meant})`
  }
  if (first === 0) return `every ${protocolName(protocol)} port`
  return first === last ? formatPort(protocol, first) : `port ${first}-${last}/${protocolName(protocol)}`
}

/** `undefined`: a peer matches; else what is different about each. */
function peerDifferences(
  facts: FlowFacts,
  policy: Policy,
  { peers }: Rule,
  at: Denied['at'],
): Difference[] | undefined {
  if (!peers || peers.some((peer) => matchesPeer(facts, policy, peer))) return undefined
  return peers.flatMap((peer) => differencesOfPeer(facts, policy, peer, at))
}

function differencesOfPeer(facts: FlowFacts, policy: Policy, match: PeerMatch, at: Denied['at']): Difference[] {
  switch (match.type) {
    case 'pods':
      return facts.peer ? [workloadDifference(facts, policy, match)] : outsideDifferences(facts, policy, match, at)
    case 'nodes':
      return [nodeDifference(facts, match)]
    case 'block':
      return [blockDifference(facts, match, at)]
    case 'domainName':
      return nameDifferences(facts, match.pattern, at)
  }
}

type PodsPeer = Extract<PeerMatch, { type: 'pods' }>

function workloadDifference(
  { peer }: FlowFacts,
  policy: Policy,
  { namespaceSelector, podSelector }: PodsPeer,
): Difference {
  const { namespace, labels, namespaceLabels } = peer!
  const unmet = (requirements: readonly Requirement[], of: Labels) => requirements.filter((each) => !isMet(each, of))
  const unmetPod = unmet(podSelector.requirements, labels)
  const unmetNamespace = unmet(namespaceSelector?.requirements ?? [], namespaceLabels)
  // A workload does not change its namespace, nor a namespace its name: it would be another peer.
  const meant = namespaceSelector
    ? unmetNamespace.flatMap(({ key, operator, values }) =>
        key === NAMESPACE_NAME_LABEL && operator === 'In' ? [values.join(' or ')] : [],
      )
    : namespace === policy.namespace
      ? []
      : [policy.namespace!]
  const unmetOther = unmetNamespace.filter(({ key, operator }) => key !== NAMESPACE_NAME_LABEL || operator !== 'In')
  const parts: string[] = []
  if (unmetPod.length > 0) parts.push(`peer ${lacks(unmetPod)}`)
  if (unmetOther.length > 0) parts.push(`peer's namespace ${namespace} ${lacks(unmetOther)}`)
  for (const name of meant) parts.push(`peer is in namespace ${namespace}, the rule means ${name}`)
  const podEdits = labelEdits(podSelector.requirements, labels)
  const namespaceEdits = labelEdits(namespaceSelector?.requirements ?? [], namespaceLabels)
  const isFixed = meant.length > 0 || unmetOther.some(({ key }) => key === NAMESPACE_NAME_LABEL)
  const steps =
    isFixed || !podEdits || !namespaceEdits
      ? undefined
      : [
          ...podEdits.map(
            (edit): Step => ({
              change: { type: 'label', of: 'peer', ...edit },
              apply: (facts) => ({ ...facts, peer: { ...facts.peer!, labels: withLabel(facts.peer!.labels, edit) } }),
            }),
          ),
          ...namespaceEdits.map(
            (edit): Step => ({
              change: { type: 'namespaceLabel', namespace, ...edit },
              apply: (facts) => ({
                ...facts,
                peer: { ...facts.peer!, namespaceLabels: withLabel(facts.peer!.namespaceLabels, edit) },
              }),
            }),
          ),
        ]
  const podCost = sum(unmetPod.map(({ key }) => (labels.has(key) ? OTHER_LABEL : ADDED_LABEL)))
  const namespaceCost = sum(
    unmetNamespace.map(({ key }) => (namespaceLabels.has(key) ? OTHER_NAMESPACE_LABEL : ADDED_NAMESPACE_LABEL)),
  )
  return { text: parts.join(' and '), cost: podCost + namespaceCost + meant.length, steps }
}

/** An address outside is named by NetworkSets: by others than it is in, or by none, and then its own may be labelled wrong. */
function outsideDifferences(facts: FlowFacts, policy: Policy, match: PodsPeer, at: Denied['at']): Difference[] {
  const { peerAddress, peerSets, world } = facts
  const peer = `peer ${addressText(peerAddress)}`
  const networks = world.networksOf(match, policy.namespace)
  if (networks.length > 0) {
    const text = `${peer} is outside ${world.setNamesOf(match, policy.namespace).join(', ')}`
    return [{ text, cost: OTHER_ADDRESS, steps: stepsInto(facts, networks, [], at) }]
  }
  const relabelled = peerSets.flatMap((set) => setDifference(facts, set, policy, match) ?? [])
  if (relabelled.length > 0) return relabelled
  return [{ text: `${peer} is no pod`, cost: OTHER_ADDRESS, steps: undefined }]
}

/** A set that has other values for what the peer asks for; one that has nothing of it is something else. */
function setDifference(
  { world }: FlowFacts,
  set: NetworkSet,
  { namespace }: Policy,
  { namespaceSelector, podSelector: { requirements } }: PodsPeer,
): Difference | undefined {
  const isInPlace = namespaceSelector
    ? selects(namespaceSelector, world.labelsOf(set.namespace))
    : set.namespace === namespace
  const isAlike = requirements.some(({ key, operator }) => operator === 'In' && set.labels.has(key))
  if (!isInPlace || !isAlike) return undefined
  const edits = labelEdits(requirements, set.labels)
  const networkSet = { namespace: set.namespace, name: set.ref.name }
  return {
    text: `peer's NetworkSet ${refName(set.ref)} ${lacks(requirements.filter((each) => !isMet(each, set.labels)))}`,
    cost: OTHER_LABEL,
    steps: edits?.map((edit) => ({
      change: { type: 'label', of: 'networkSet', networkSet, ...edit },
      apply: (facts) => ({
        ...facts,
        peerSets: facts.peerSets.map((each) =>
          each.ref === set.ref ? { ...each, labels: withLabel(each.labels, edit) } : each,
        ),
      }),
    })),
  }
}

function nodeDifference(
  { peer, peerAddress, peerNodeLabels }: FlowFacts,
  { selector }: Extract<PeerMatch, { type: 'nodes' }>,
): Difference {
  const name = peer ? 'peer' : `peer ${addressText(peerAddress)}`
  const [unmet] = peerNodeLabels
    .map((labels) => selector.requirements.filter((each) => !isMet(each, labels)))
    .sort((a, b) => a.length - b.length)
  const text = unmet ? `node of ${name} ${lacks(unmet)}` : `${name} is no node`
  return { text, cost: unmet ? OTHER_LABEL : OTHER_ADDRESS, steps: undefined }
}

function blockDifference(
  facts: FlowFacts,
  { cidr, except }: Extract<PeerMatch, { type: 'block' }>,
  at: Denied['at'],
): Difference {
  const { peerAddress } = facts
  const steps = stepsInto(facts, [cidr], except, at)
  const block = formatBlock(cidr)
  if (!peerAddress) return { text: `peer has no address to be in ${block}`, cost: OTHER_ADDRESS, steps }
  const exception = except.find((each) => blockContains(each, peerAddress))
  if (!exception || !blockContains(cidr, peerAddress)) {
    return { text: `peer ${addressText(peerAddress)} is outside ${block}`, cost: OTHER_ADDRESS, steps }
  }
  const text = `peer ${addressText(peerAddress)} is excepted by ${formatBlock(exception)} of ${block}`
  return { text, cost: EXCEPTED, steps }
}

function nameDifferences(facts: FlowFacts, pattern: string, at: Denied['at']): Difference[] {
  const resolved = facts.world.addressesOf(pattern)
  const text =
    resolved.length === 0
      ? `no address of ${pattern} is known`
      : `peer ${addressText(facts.peerAddress)} is none of the addresses of ${pattern}`
  return [{ text, cost: OTHER_ADDRESS, steps: stepsInto(facts, resolved.map(blockOf), [], at) }]
}

/**
 * The step to an address in the first block of the flow's family, beside the exceptions. A workload has its address, and
 * does not get another.
 */
function stepsInto(
  { peer, peerAddress }: FlowFacts,
  blocks: readonly Block[],
  except: readonly Block[],
  at: Denied['at'],
): Step[] | undefined {
  if (peer || !peerAddress) return undefined
  for (const whole of blocks) {
    if (isFamily4(whole) !== isIPv4(peerAddress)) continue
    const block = largestBeside(whole, except)
    if (!block) continue
    const facts = sampleOf(block, at)
    const apply = (before: FlowFacts) => ({ ...facts, protocol: before.protocol, port: before.port })
    return [{ change: { type: 'address', block: formatBlock(block) }, apply }]
  }
  return undefined
}

function isFamily4({ address, prefix }: Block): boolean {
  return prefix >= 96 && isIPv4(address)
}

/** The largest block in `whole` that meets none of the exceptions; `undefined` where they leave nothing. */
export function largestBeside(whole: Block, except: readonly Block[]): Block | undefined {
  let blocks = [whole]
  while (blocks.length > 0) {
    const free = blocks.find(
      (block) => !except.some((each) => blockContains(block, each.address) || covers(each, block)),
    )
    if (free) return free
    blocks = blocks
      .filter((block) => block.prefix < 128 && !except.some((each) => covers(each, block)))
      .flatMap(({ address, prefix }) => {
        const half = prefix + 1
        return [
          { address, prefix: half },
          { address: withBit(address, prefix), prefix: half },
        ]
      })
  }
  return undefined
}

function covers(outer: Block, inner: Block): boolean {
  return outer.prefix <= inner.prefix && blockContains(outer, inner.address)
}

/** @param bit counted from the most significant */
function withBit(address: Address, bit: number): Address {
  const word = (['w0', 'w1', 'w2', 'w3'] as const)[bit >> 5]!
  return { ...address, [word]: address[word] | (1 << (31 - (bit & 31))) }
}

/** The flow to an address of the block, rather to one that no workload and no node has. */
function sampleOf({ address, prefix }: Block, at: Denied['at']): FlowFacts {
  const size = Math.min(MOST_SAMPLES, 2 ** (128 - prefix))
  let first: FlowFacts | undefined
  for (let i = size > 1 ? 1 : 0; i < size; i++) {
    const facts = at({ ...address, w3: address.w3 | i })
    if (!facts.peer && facts.peerNodeLabels.length === 0) return facts
    first ??= facts
  }
  return first!
}

interface LabelEdit {
  readonly key: string
  /** Left out: the label goes. */
  readonly value?: string
}

/** The fewest labels to set or take away until all requirements hold; `undefined` where they exclude each other. */
function labelEdits(requirements: readonly Requirement[], labels: Labels): LabelEdit[] | undefined {
  const edits: LabelEdit[] = []
  for (const key of new Set(requirements.filter((each) => !isMet(each, labels)).map((each) => each.key))) {
    const ofKey = requirements.filter((each) => each.key === key)
    const values = ofKey.flatMap(({ operator, values }) => (operator === 'In' ? values : []))
    const options: LabelEdit[] = [
      ...values.map((value) => ({ key, value })),
      { key },
      { key, value: '' },
      { key, value: 'true' },
    ]
    const edit = options.find((option) => ofKey.every((each) => isMet(each, withLabel(labels, option))))
    if (!edit) return undefined
    edits.push(edit)
  }
  return edits
}

function withLabel(labels: Labels, { key, value }: LabelEdit): Labels {
  const changed = new Map(labels)
  if (value === undefined) changed.delete(key)
  else changed.set(key, value)
  return changed
}

function lacks(requirements: readonly Requirement[]): string {
  const missing = requirements.filter(({ operator }) => operator === 'In' || operator === 'Exists')
  const excluded = requirements.filter((requirement) => !missing.includes(requirement))
  const parts: string[] = []
  if (missing.length > 0) parts.push(`lacks ${missing.map(formatRequirement).join(', ')}`)
  if (excluded.length > 0) parts.push(`is excluded by ${excluded.map(formatRequirement).join(', ')}`)
  return parts.join(' and ')
}

function addressText(value: Address | undefined): string {
  return value ? formatAddress(value) : '(no address)'
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0)
}
