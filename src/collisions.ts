import type { MarkLayout } from './datapath/marks.ts'
import type { Finding } from './finding.ts'
import { describeQueues, type QueueRange, queueNumbers } from './queue-range.ts'
import { TABLE } from './ruleset/text.ts'

/** A program that brings rules or devices of its own. */
interface Program {
  readonly name: string
  /** What its tables and chains are called. */
  readonly rules: RegExp
  /** What its network devices are called, where they alone say that it is at work. */
  readonly devices?: RegExp
  readonly note?: string
  readonly remedy?: string
}

/** Those that have something else to do than Kubernetes' policies. */
const programs: readonly Program[] = [
  { name: 'firewalld', rules: /^firewalld$/, note: 'a reload flushes its own tables only' },
  {
    name: 'Docker',
    rules: /^DOCKER/,
    note: 'its published ports arrive by the forward hook',
    remedy: 'name its networks in the HostEndpoint: spec.forwards',
  },
  { name: 'ufw', rules: /^ufw6?-/ },
  // The rest of KUBE- is kube-router's.
  { name: 'kube-proxy', rules: /^KUBE-(?!ROUTER-|POD-FW-|NWPLCY-)|^kube-proxy$/ },
  { name: 'kindnet', rules: /^kindnet-(?!network-policies$)/, note: 'no policies in these' },
  {
    name: 'Flannel',
    rules: /^FLANNEL-|^flannel-ipv[46]$/,
    devices: /^flannel(\.|-v6\.|-wg)/,
    note: 'it enforces no policies',
  },
  { name: 'Tailscale', rules: /^ts-/ },
]

/** Those that enforce Kubernetes' policies themselves; how each is told to leave that to knp. */
const policyAgents: readonly (Program & { readonly remedy: string })[] = [
  {
    name: 'kube-network-policies',
    rules: /^kube-network-policies$/,
    remedy: 'delete its DaemonSet, then on each node `nft delete table inet kube-network-policies`',
  },
  {
    name: 'kindnet',
    rules: /^kindnet-network-policies$/,
    remedy:
      'run kindnetd with --network-policy=false (kind: disableDefaultCNI, and another network), then on each node `nft delete table inet kindnet-network-policies`',
  },
  {
    name: 'Calico',
    rules: /^cali-|^calico$/,
    devices: /^(vxlan(-v6)?\.calico|wireguard\.cali|wg-v6\.cali|bpf(in|out)\.cali|cali[0-9a-f]{11})$/,
    note: 'it uses packet marks 0xffff0000',
    remedy:
      'use a network without policies, or leave the policies to it; while both are here give knp other masks (--marks-packet, --marks-conntrack)',
  },
  {
    name: 'Cilium',
    rules: /^CILIUM_/,
    devices: /^cilium_(host|net)$/,
    note: 'its eBPF programs may pass packets by without netfilter',
    remedy:
      'set policyEnforcementMode=never and bpf.hostLegacyRouting=true in its Helm values, or leave the policies to it',
  },
  {
    name: 'kube-router',
    rules: /^KUBE-(ROUTER|POD-FW|NWPLCY)-/,
    remedy:
      'run it with --run-firewall=false (k3s: --disable-network-policy), then restart the node: its rules stay until they are removed',
  },
  {
    name: 'Antrea',
    rules: /^ANTREA-/,
    devices: /^antrea-(gw|tun)0$/,
    note: 'its Open vSwitch passes packets by without netfilter',
    remedy: 'leave the policies to it, or use another network',
  },
  {
    name: 'OVN-Kubernetes',
    rules: /^ovn-kubernetes$/,
    devices: /^ovn-k8s-mp\d+$/,
    note: 'its Open vSwitch passes packets by without netfilter',
    remedy: 'leave the policies to it, or use another network',
  },
  {
    name: 'Weave Net',
    rules: /^WEAVE-NPC/,
    remedy: 'take the container weave-npc out of its DaemonSet and set EXPECT_NPC=0',
  },
  { name: 'Azure NPM', rules: /^AZURE-NPM/, remedy: 'delete its DaemonSet azure-npm' },
]

interface Entry {
  readonly table?: { readonly family: string; readonly name: string }
  readonly chain?: { readonly table: string; readonly name: string }
  readonly rule?: {
    readonly family: string
    readonly table: string
    readonly chain: string
    readonly expr: readonly unknown[]
  }
  readonly flowtable?: { readonly family: string; readonly table: string; readonly name: string }
}

/**
 * What of other programs gets in knp's way. Pure.
 * @param ruleset what `nft --json list ruleset` prints
 * @param devices names of the network devices
 */
export function findCollisions(
  ruleset: unknown,
  marks: MarkLayout,
  queues: QueueRange,
  devices: readonly string[] = [],
): Finding[] {
  const entries = ((ruleset as { nftables?: readonly Entry[] }).nftables ?? []).filter(
    (entry) => tableOf(entry) !== TABLE,
  )
  const findings: Finding[] = []
  const names = entries.flatMap(({ table, chain }) => {
    if (table) return [{ name: table.name, text: `table ${table.family} ${table.name}` }]
    return chain ? [{ name: chain.name, text: `chain ${chain.name}` }] : []
  })
  /** What of a program is here. */
  const signOf = (program: Program) =>
    names.find(({ name }) => program.rules.test(name))?.text ??
    devices.filter((device) => program.devices?.test(device)).map((device) => `device ${device}`)[0]
  for (const program of programs) {
    const sign = signOf(program)
    if (sign === undefined) continue
    const { name, note, remedy } = program
    findings.push({
      check: 'other firewall',
      result: remedy ? 'warn' : 'ok',
      detail: `${name} is here (${sign})${note ? `: ${note}` : ''}`,
      ...(remedy && { remedy }),
    })
  }
  for (const agent of policyAgents) {
    const sign = signOf(agent)
    if (sign === undefined) continue
    findings.push({
      check: 'policy agent',
      result: 'warn',
      detail: `${agent.name} is here (${sign}): both decide, and what either denies is denied${agent.note ? `; ${agent.note}` : ''}`,
      remedy: agent.remedy,
    })
  }
  for (const { flowtable } of entries) {
    if (!flowtable) continue
    findings.push({
      check: 'flowtable',
      result: 'warn',
      detail: `${flowtable.family} ${flowtable.table} ${flowtable.name}: connections in it do not pass the forward hook, a changed policy does not cut them`,
      remedy: 'keep protected workloads out of the flowtable',
    })
  }
  findings.push(...markCollisions(entries, marks), ...queueCollisions(entries, queues))
  return findings
}

function markCollisions(entries: readonly Entry[], { packetMask, connectionMask }: MarkLayout): Finding[] {
  const written = new Map<string, string>()
  for (const { rule } of entries) {
    if (!rule) continue
    for (const expression of rule.expr) {
      const { kind, bits } = markWrite(expression) ?? { kind: 'meta', bits: 0 }
      const ours = kind === 'ct' ? connectionMask : packetMask
      if ((bits & ours) >>> 0 === 0) continue
      const place = `${rule.family} ${rule.table}`
      written.set(
        `${place} ${kind}`,
        `${place}, chain ${rule.chain}, writes ${kind === 'ct' ? 'connection' : 'packet'} mark bits 0x${((bits & ours) >>> 0).toString(16)}, which knp uses`,
      )
    }
  }
  return [...written.values()].map((detail) => ({
    check: 'marks',
    result: 'warn' as const,
    detail,
    remedy: 'choose masks that nobody else uses: --marks-packet, --marks-conntrack',
  }))
}

/** The bits that a statement `meta mark set ..` or `ct mark set ..` may change. */
function markWrite(expression: unknown): { kind: 'meta' | 'ct'; bits: number } | undefined {
  const mangle = (expression as { mangle?: { key: Record<string, { key?: string }>; value: unknown } }).mangle
  const kind = mangle?.key.ct?.key === 'mark' ? 'ct' : mangle?.key.meta?.key === 'mark' ? 'meta' : undefined
  return mangle && kind ? { kind, bits: changedBits(mangle.value, kind) } : undefined
}

/** All bits, but those that the expression takes over from the mark itself: `mark & mask`, `mark | value`. */
function changedBits(value: unknown, kind: 'meta' | 'ct'): number {
  if (typeof value !== 'object' || value === null) return 0xffffffff
  const operation = value as Record<string, readonly [unknown, unknown]>
  const [inner, constant] = operation['|'] ?? operation['^'] ?? operation['&'] ?? []
  if (inner === undefined || typeof constant !== 'number') return 0xffffffff
  const before = isMark(inner, kind) ? 0 : changedBits(inner, kind)
  return (operation['&'] ? before | ~constant : before | constant) >>> 0
}

function isMark(value: unknown, kind: 'meta' | 'ct'): boolean {
  return (value as Record<string, { key?: string } | undefined>)[kind]?.key === 'mark'
}

function queueCollisions(entries: readonly Entry[], queues: QueueRange): Finding[] {
  return entries.flatMap(({ rule }) => {
    const statements = (rule?.expr ?? []) as readonly { readonly queue?: { readonly num?: unknown } | null }[]
    const numbers = statements.find(({ queue }) => queue)?.queue?.num
    const range = (numbers as { range?: readonly [number, number] } | undefined)?.range
    const [first, last] = typeof numbers === 'number' ? [numbers, numbers] : (range ?? [])
    if (!rule || first === undefined || last === undefined) return []
    const taken = queueNumbers(queues).filter((number) => number >= first && number <= last)
    if (taken.length === 0) return []
    const shared = { first: taken[0]!, count: taken.length }
    return [
      {
        check: 'queue number',
        result: 'warn' as const,
        detail: `${rule.family} ${rule.table}, chain ${rule.chain}, sends packets to ${describeQueues(shared)} too`,
        remedy: 'choose others: --queue-first',
      },
    ]
  })
}

function tableOf({ table, chain, rule, flowtable }: Entry): string | undefined {
  return table?.name ?? chain?.table ?? rule?.table ?? flowtable?.table
}
