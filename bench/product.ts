import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { DEFAULT_CONNECTION_MASK, DEFAULT_PACKET_MASK, layoutMarks } from '../src/datapath/marks.ts'
import { worldYaml } from './datapath/world.ts'
import type { BenchFirewallOptions } from './firewall.ts'
import { endProcess, type Product, type Site, startReady } from './scenarios.ts'

const program = fileURLToPath(new URL('../bin/run.js', import.meta.url))
const rulesetScript = fileURLToPath(new URL('./ruleset.ts', import.meta.url))
const firewallScript = fileURLToPath(new URL('./firewall.ts', import.meta.url))
const marks = layoutMarks(DEFAULT_PACKET_MASK, DEFAULT_CONNECTION_MASK)!

/** knp's ruleset and firewall, as the scenarios drive them. */
export const product: Product = {
  async installRuleset(site, { divert }) {
    await inRouter(site, [
      process.execPath,
      rulesetScript,
      `${site.queues.first}`,
      `${site.queues.count}`,
      divert ? 'divert' : 'pass',
      JSON.stringify(site.ends),
    ])
  },
  async removeRuleset(site) {
    await inRouter(site, [process.execPath, program, 'ruleset', 'remove'])
  },
  allowMark: () => ({ and: ~marks.packetMask >>> 0, or: marks.allowed | (1 << marks.stampShift) }),
  async startFirewall(site, { isLogged, nodeName }) {
    const folder = await mkdtemp(join(tmpdir(), 'knp-bench-'))
    await mkdir(join(folder, 'policies'))
    await writeFile(join(folder, 'policies', 'world.yaml'), worldYaml(site.ends))
    const argv = [
      process.execPath,
      program,
      'run',
      '--source',
      join(folder, 'policies'),
      '--queue-first',
      `${site.queues.first}`,
      '--queue-count',
      `${site.queues.count}`,
    ]
    const child = site.network.spawn(
      site.network.router,
      [
        ...argv,
        '--on-failure',
        'open',
        '--control-socket',
        join(folder, 'socket'),
        '--state-dir',
        join(folder, 'state'),
        isLogged ? '--remember-log' : '--no-remember-log',
        ...(nodeName === undefined ? [] : ['--node-name', nodeName]),
      ],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    )
    await new Promise<void>((resolve, reject) => {
      child.stdout?.once('data', () => resolve())
      child.once('close', () => reject(new Error('knp run ended at its start')))
    })
    return async () => {
      await endProcess(child)
      await rm(folder, { recursive: true, force: true })
    }
  },
  async startChanging({ network, ends, queues }) {
    const folder = await mkdtemp(join(tmpdir(), 'knp-bench-'))
    const options: BenchFirewallOptions = { ends, queues, stateDir: join(folder, 'state') }
    const argv = [process.execPath, firewallScript, JSON.stringify(options)]
    const child = await startReady(network, network.router, argv).catch(async (error: unknown) => {
      await rm(folder, { recursive: true, force: true })
      throw error
    })
    // What it complains of may explain what is measured.
    child.stderr?.pipe(process.stderr)
    const answers = createInterface({ input: child.stdout! })
    const ended = once(child, 'close').then(() => {
      throw new Error('the firewall ended while its workloads changed')
    })
    ended.catch(() => {})
    return {
      async setRate(perSecond) {
        const answer = once(answers, 'line')
        child.stdin!.write(`${perSecond}\n`)
        const [line] = (await Promise.race([answer, ended])) as [string]
        return JSON.parse(line)
      },
      async stop() {
        await endProcess(child)
        await rm(folder, { recursive: true, force: true })
      },
    }
  },
}

async function inRouter(site: Site, argv: readonly string[]): Promise<void> {
  const { code, stderr } = await site.network.exec(site.network.router, argv, { timeoutMs: 20_000 })
  if (code !== 0) throw new Error(`${argv.join(' ')}: ${stderr.trim()}`)
}
