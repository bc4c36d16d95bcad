import { lookup } from 'node:dns/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { clockMs } from './clock.ts'
import { blockOf, parseAddress } from './engine/address.ts'
import { type FailsafeRule, formatFailsafe } from './ruleset/failsafe.ts'
import type { Cluster } from './sources/source.ts'

/** Answers all addresses of a host name, or of an address itself. */
export type LookUp = (host: string) => Promise<readonly { readonly address: string }[]>

/** How often names are looked up again: the addresses of an API server change when it is moved. */
const INTERVAL_MS = 10_000
/** So long an address that comes and goes counts after it was answered last. */
const KEPT_MS = 600_000
/** Nothing waits for a resolver that does not answer. */
const FIRST_TIMEOUT_MS = 2000

/** An address that a name had. */
interface Known {
  readonly answeredMs: number
  /** It was answered again after it had been missing: the name's answers take turns. */
  readonly isBack: boolean
}

/**
 * What lets this machine reach the API servers of its sources, whatever policies say of it. Follows their names; where one
 * cannot be looked up, its last addresses hold. One that moves takes its failsafe along at once; of a name whose answers take
 * turns, all that came back are in it.
 */
export class ApiServerFailsafe {
  readonly #clusters: readonly Cluster[]
  readonly #lookUp: LookUp
  readonly #now: () => number
  /** By name, then by address. */
  readonly #names = new Map<string, Addresses>()
  #rules: readonly FailsafeRule[] = []

  constructor(
    clusters: readonly Cluster[],
    lookUp: LookUp = (host) => lookup(host, { all: true }),
    now: () => number = clockMs,
  ) {
    this.#clusters = clusters
    this.#lookUp = lookUp
    this.#now = now
  }

  /** As outbound rules; none before the API servers are known. */
  get rules(): readonly FailsafeRule[] {
    return this.#rules
  }

  /** Looks all names up. Answers whether the rules are others than before. */
  async update(): Promise<boolean> {
    const rules = (await Promise.all(this.#clusters.map((cluster) => this.#ruleFor(cluster)))).flat()
    const isSame = textOf(rules) === textOf(this.#rules)
    this.#rules = rules
    return !isSame
  }

  /** The first update; not waited for any longer than a moment. */
  async begin(): Promise<void> {
    if (this.#clusters.length === 0) return
    const timer = new AbortController()
    await Promise.race([this.update(), sleep(FIRST_TIMEOUT_MS, undefined, { signal: timer.signal }).catch(() => {})])
    timer.abort()
  }

  /** Goes on with updates until the signal aborts. */
  async follow(onChange: () => void, signal: AbortSignal): Promise<void> {
    if (this.#clusters.length === 0) return
    while (!signal.aborted) {
      await sleep(INTERVAL_MS, undefined, { signal, ref: false }).catch(() => {})
      if (!signal.aborted && (await this.update())) onChange()
    }
  }

  async #ruleFor(cluster: Cluster): Promise<FailsafeRule[]> {
    const server = cluster.apiServer()
    if (!server) return []
    const { host, port } = server
    try {
      const found = await this.#lookUp(host)
      this.#names.set(host, noteAnswer(this.#names.get(host) ?? none, found, this.#now()))
    } catch {
      // Its last ones hold.
    }
    const addresses = addressesOf(this.#names.get(host) ?? none).sort()
    const peers = addresses.flatMap((text) => parseAddress(text) ?? [])
    return peers.length === 0 ? [] : [{ protocol: 'tcp', port, peers: peers.map(blockOf) }]
  }
}

type Addresses = ReadonlyMap<string, Known>
const none: Addresses = new Map()

function noteAnswer(former: Addresses, found: Awaited<ReturnType<LookUp>>, nowMs: number): Addresses {
  const lastMs = lastAnswerMs(former)
  const known = new Map([...former].filter(([, { answeredMs }]) => nowMs - answeredMs < KEPT_MS))
  for (const { address } of found) {
    const earlier = known.get(address)
    const isBack = earlier !== undefined && (earlier.isBack || earlier.answeredMs < lastMs)
    known.set(address, { answeredMs: nowMs, isBack })
  }
  return known
}

/** Those of the last answer, and those that will come again. */
function addressesOf(known: Addresses): string[] {
  const lastMs = lastAnswerMs(known)
  return [...known].flatMap(([address, { answeredMs, isBack }]) => (isBack || answeredMs === lastMs ? address : []))
}

function lastAnswerMs(known: Addresses): number {
  return Math.max(...[...known.values()].map(({ answeredMs }) => answeredMs))
}

function textOf(rules: readonly FailsafeRule[]): string {
  return rules.map(formatFailsafe).join(' ')
}
