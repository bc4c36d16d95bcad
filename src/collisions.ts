import type { MarkLayout } from './datapath/marks.ts'
import type { Finding } from './finding.ts'
import { describeQueues, type QueueRange, queueNumbers } from './queue-range.ts'
import { TABLE } from './ruleset/text.ts'

/** Programs that bring rules of their own, by what their tables and chains are called. */
const programs: readonly {
  readonly name: string
  readonly sign: RegExp
  readonly note?: string
  readonly remedy?: string
}[] = [
  { name: 'firewalld', sign: /^firewalld$/, note: 'a reload flushes its own tables only' },
  {
    name: 'Docker',
    sign: /^DOCKER/,
    note: 'its published ports arrive by the forward hook',
    remedy: 'name its networks in the HostEndpoint: spec.forwards',
  },
  { name: 'ufw', sign: /^ufw6?-/ },
  { name: 'kube-proxy', sign: /^KUBE-|^kube-proxy$/ },
  {
    name: 'Calico',
    sign: /^cali-|^calico$/,
    note: 'it uses packet marks 0xffff0000',
    remedy: 'give knp other masks (--marks-packet, --marks-conntrack), and one of them the policies',
  },
  {
    name: 'Cilium',
    sign: /^CILIUM_/,
    note: 'its eBPF programs may pass packets by without netfilter',
    remedy: 'let one of them enforce the policies',
  },
  {
    name: 'kube-network-policies',
    sign: /^kube-network-policies$/,
    note: 'it enforces NetworkPolicy too',
    remedy: 'stop one of them',
  },
  { name: 'kindnet', sign: /^kindnet/, note: 'it may enforce NetworkPolicy too' },
  { name: 'Tailscale', sign: /^ts-/ },
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
 * What of other programs' rules gets in knp's way. Pure.
 * @param ruleset what `nft --json list ruleset` prints
 */
export function findCollisions(ruleset: unknown, marks: MarkLayout, queues: QueueRange): Finding[] {
  const entries = ((ruleset as { nftables?: readonly Entry[] }).nftables ?? []).filter(
    (entry) => tableOf(entry) !== TABLE,
  )
  const findings: Finding[] = []
  const names = entries.flatMap(({ table, chain }) => [table?.name, chain?.name].filter((name) => name !== undefined))
  for (const { name, sign, note, remedy } of programs) {
    if (!names.some((each) => sign.test(each))) continue
    findings.push({
      check: 'other firewall',
      result: remedy ? 'warn' : 'ok',
      detail: `${name} has rules here${note ? `: ${note}` : ''}`,
      ...(remedy && { remedy }),
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
