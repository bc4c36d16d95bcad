import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { release } from 'node:os'
import { bridgeRemedy, bridges, unheardBridges } from './bridges.ts'
import { findCollisions } from './collisions.ts'
import { configDefaults } from './config.ts'
import { DEFAULT_CONNECTION_MASK, DEFAULT_PACKET_MASK, layoutMarks, type MarkLayout } from './datapath/marks.ts'
import { parseBlock } from './engine/index.ts'
import { KnpError } from './errors.ts'
import type { Finding } from './finding.ts'
import { isNamespaceClaimed } from './native/claim.ts'
import { sweepMarks } from './native/conntrack.ts'
import { type Netlink, NetlinkError, openNetlink } from './native/netlink.ts'
import { batch, check, divertRule, type QueueMechanism } from './native/nftables.ts'
import { findPortOwner } from './native/port-owner.ts'
import { loadQueues, readQueueStatistics } from './native/queue-statistics.ts'
import { describeQueues, type QueueRange, queueNumbers } from './queue-range.ts'
import { defaultFailsafe } from './ruleset/failsafe.ts'
import { listRuleset, nftVersion, runNft } from './ruleset/nft.ts'
import { divertMechanism } from './ruleset/ruleset.ts'
import { objectsText, rulesText, TABLE } from './ruleset/text.ts'

const CAP_NET_ADMIN = 12
const PROBE = 'knp_probe'
const defaultQueues: QueueRange = { first: 100, count: 1 }
const defaultMarks = layoutMarks(DEFAULT_PACKET_MASK, DEFAULT_CONNECTION_MASK)!
/** Every kind of rule. */
const probeHost = { ingress: true, egress: true, forwards: [parseBlock('192.0.2.0/24')!, parseBlock('2001:db8::/64')!] }

/**
 * Everything the firewall needs of this machine, and what is known to go wrong beside it. Changes nothing.
 * @param queues those that the firewall is to bind
 */
export async function examineHost(
  marks: MarkLayout = defaultMarks,
  queues: QueueRange = defaultQueues,
): Promise<Finding[]> {
  const findings = [checkPlatform()]
  if (hasFailed(findings)) return findings
  findings.push(checkPrivilege(), await checkNft())
  const netlink = openProbe(findings)
  if (netlink && !hasFailed(findings)) {
    findings.push(
      await checkRules(netlink),
      checkDivert(netlink),
      checkQueues(netlink, queues),
      checkConntrack(netlink),
      checkOwnTable(netlink),
      ...(await checkOthers(marks, queues)),
    )
  }
  netlink?.close()
  findings.push(checkDnsRace(release()), ...checkBridges())
  return findings
}

/** Throws KnpError PERMISSION or UNSUPPORTED_HOST with the first thing that is missing. */
export async function requireHost(): Promise<void> {
  const failure = (await examineHost()).find(({ result }) => result === 'fail')
  if (!failure) return
  const code = failure.check === 'privilege' ? 'PERMISSION' : 'UNSUPPORTED_HOST'
  throw new KnpError(
    code,
    `this machine cannot enforce: ${failure.check}: ${failure.detail}`,
    failure.remedy ? { hint: failure.remedy } : {},
  )
}

export function hasFailed(findings: readonly Finding[]): boolean {
  return findings.some(({ result }) => result === 'fail')
}

function checkPlatform(): Finding {
  const detail = `${process.platform} ${release()}`
  if (process.platform === 'linux') return { check: 'platform', result: 'ok', detail }
  return { check: 'platform', result: 'fail', detail, remedy: 'the firewall needs Linux; explain works everywhere' }
}

function checkPrivilege(): Finding {
  const effective = /^CapEff:\s*([0-9a-f]+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'
  if ((BigInt(`0x${effective}`) >> BigInt(CAP_NET_ADMIN)) & 1n)
    return { check: 'privilege', result: 'ok', detail: 'CAP_NET_ADMIN is there' }
  return {
    check: 'privilege',
    result: 'fail',
    detail: 'CAP_NET_ADMIN is missing',
    remedy: 'run as root or grant CAP_NET_ADMIN',
  }
}

async function checkNft(): Promise<Finding> {
  const version = await nftVersion()
  if (version) return { check: 'nft', result: 'ok', detail: version }
  return {
    check: 'nft',
    result: 'fail',
    detail: 'the nft command is not there',
    remedy: 'install it: apt-get install nftables',
  }
}

function openProbe(findings: Finding[]): Netlink | undefined {
  try {
    const netlink = openNetlink()
    findings.push({ check: 'addon', result: 'ok', detail: `built for ${process.platform}-${process.arch}` })
    return netlink
  } catch (error) {
    const { message, hint } = error as KnpError
    findings.push({ check: 'addon', result: 'fail', detail: message, ...(hint && { remedy: hint }) })
    return undefined
  }
}

/**
 * Lets the kernel validate the whole ruleset, under another name, and forget it. Not where knp's rules are there already: a
 * base chain that is forgotten takes with it every packet that waits in any queue.
 */
async function checkRules(netlink: Netlink): Promise<Finding> {
  if (divertMechanism(netlink)) return { check: 'rules', result: 'ok', detail: 'the kernel has taken the ruleset' }
  const options = {
    marks: defaultMarks,
    onFailure: 'closed',
    denyWith: 'reject',
    failsafe: defaultFailsafe,
    remember: configDefaults.remember,
  } as const
  const text = (
    objectsText(options.remember) + rulesText({ ...options, host: probeHost, areSubjectsOwn: true })
  ).replaceAll(`inet ${TABLE}`, `inet ${PROBE}`)
  try {
    await runNft(text, ['--check'])
    return { check: 'rules', result: 'ok', detail: 'the kernel has every expression that the ruleset uses' }
  } catch (error) {
    const remedy = 'the kernel needs nf_tables with inet, ct, set and mark support, as Debian 12 has it'
    return { check: 'rules', result: 'fail', detail: (error as Error).message, remedy }
  }
}

function checkDivert(netlink: Netlink): Finding {
  const reasons: string[] = []
  for (const mechanism of ['queue', 'xt-target'] as const) {
    try {
      check(netlink, probeDivert(mechanism))
      const detail =
        mechanism === 'queue'
          ? "nft's own queue statement"
          : "the NFQUEUE target over netlink (nft's own queue statement is missing)"
      return { check: 'divert rule', result: 'ok', detail }
    } catch (error) {
      if (!(error instanceof NetlinkError)) throw error
      reasons.push(error.message)
    }
  }
  return {
    check: 'divert rule',
    result: 'fail',
    detail: `the kernel can hand packets to userspace in no way we know: ${reasons.join('; ')}`,
    remedy: 'load a module: `modprobe nft_queue`, or `modprobe xt_NFQUEUE nft_compat`',
  }
}

function probeDivert(mechanism: QueueMechanism) {
  const rule = divertRule({ mask: 1, value: 1, queue: 0, queuesTotal: 1, bypass: true, mechanism })
  return batch(PROBE).addTable().addChain('probe').addRule('probe', rule)
}

function checkQueues(netlink: Netlink, wanted: QueueRange): Finding {
  const check = 'queues'
  loadQueues(netlink)
  const queues = readQueueStatistics()
  if (queues) {
    const numbers = queueNumbers(wanted)
    const taken = queues.filter(({ queue }) => numbers.includes(queue))
    const bound = queues.map((entry) => {
      const owner = taken.includes(entry) ? findPortOwner(entry.portId) : undefined
      return `${entry.queue} is bound by port ${entry.portId}${owner ? `, ${owner.name} (pid ${owner.pid})` : ''}`
    })
    const detail = bound.join('; ') || 'none is bound'
    // A firewall that runs has them itself.
    if (taken.length === 0 || isNamespaceClaimed()) return { check, result: 'ok', detail }
    const remedy = `stop what has bound ${describeQueues(wanted)}, or choose others: --queue-first`
    return { check, result: 'warn', detail, remedy }
  }
  const path = '/proc/net/netfilter/nfnetlink_queue'
  if (existsSync(path)) {
    // The list is root's to read; binding a queue needs CAP_NET_ADMIN only.
    return {
      check,
      result: 'warn',
      detail: `${path} cannot be read: who has which queue is unknown`,
      remedy: 'run as root',
    }
  }
  return {
    check,
    result: 'fail',
    detail: 'the kernel has no packet queues',
    remedy: 'load the module: `modprobe nfnetlink_queue`',
  }
}

function checkConntrack(netlink: Netlink): Finding {
  try {
    // Sets bits that no connection has to what they are.
    sweepMarks(netlink, { mask: 0xffffffff, value: 0xfffffffe, newValue: 0xfffffffe }, 'both')
    return { check: 'conntrack', result: 'ok', detail: 'connections can be listed and marked' }
  } catch (error) {
    const remedy = 'load the modules: `modprobe nf_conntrack nf_conntrack_netlink`'
    return { check: 'conntrack', result: 'fail', detail: (error as Error).message, remedy }
  }
}

/** Rules and devices of others; what cannot be listed is not held against the machine. */
async function checkOthers(marks: MarkLayout, queues: QueueRange): Promise<Finding[]> {
  try {
    return [
      ...findCollisions(await listRuleset(), marks, queues, readdirSync('/sys/class/net')),
      ...checkLegacyTables(),
    ]
  } catch (error) {
    return [
      { check: 'other firewalls', result: 'warn', detail: `their rules cannot be listed: ${(error as Error).message}` },
    ]
  }
}

/** nft lists the rules of its own kind only. */
function checkLegacyTables(): Finding[] {
  const tables = ['ip', 'ip6'].flatMap((family) =>
    readText(`/proc/net/${family}_tables_names`)
      .split('\n')
      .flatMap((name) => (name ? [`${family} ${name}`] : [])),
  )
  if (tables.length === 0) return []
  const detail = `rules of iptables-legacy cannot be looked at (${tables.join(', ')})`
  return [{ check: 'other firewall', result: 'ok', detail }]
}

function checkOwnTable(netlink: Netlink): Finding {
  const mechanism = divertMechanism(netlink)
  const detail = mechanism
    ? `table inet ${TABLE} is in the kernel, divert rule: ${mechanism}`
    : `table inet ${TABLE} is not in the kernel`
  return { check: 'ruleset', result: 'ok', detail }
}

/** Two DNS queries from one socket, both queued, raced in conntrack: one was lost, and 5 s with it (netfilter bug 1766). */
function checkDnsRace(version: string): Finding {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  if (major > 6 || (major === 6 && minor >= 12))
    return { check: 'DNS race', result: 'ok', detail: `kernel ${version} is 6.12 or newer` }
  return {
    check: 'DNS race',
    result: 'warn',
    detail: `kernel ${version}: A and AAAA queries sent at once may lose one and wait 5 s (netfilter bug 1766)`,
    remedy: 'kernel 6.12 or newer; or `options single-request` in resolv.conf of the clients',
  }
}

function checkBridges(): Finding[] {
  const unheard = unheardBridges()
  if (unheard !== undefined) return [{ check: 'bridges', result: 'warn', detail: unheard, remedy: bridgeRemedy }]
  const names = bridges()
  if (names.length === 0) return []
  return [{ check: 'bridges', result: 'ok', detail: `bridged traffic passes the firewall (${names.join(', ')})` }]
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
