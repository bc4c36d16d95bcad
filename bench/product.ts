import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { DEFAULT_CONNECTION_MASK, DEFAULT_PACKET_MASK, layoutMarks } from '../src/datapath/marks.ts'
import { endProcess, type Product, type Site } from './scenarios.ts'

const program = fileURLToPath(new URL('../bin/run.js', import.meta.url))
const rulesetScript = fileURLToPath(new URL('./ruleset.ts', import.meta.url))
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
      ...site.servers,
    ])
  },
  async removeRuleset(site) {
    await inRouter(site, [process.execPath, program, 'ruleset', 'remove'])
  },
  allowMark: () => ({ and: ~marks.packetMask >>> 0, or: marks.allowed | (1 << marks.stampShift) }),
  async startFirewall(site) {
    const folder = await mkdtemp(join(tmpdir(), 'knp-bench-'))
    await mkdir(join(folder, 'policies'))
    await writeFile(join(folder, 'policies', 'world.yaml'), world(site))
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
}

async function inRouter(site: Site, argv: readonly string[]): Promise<void> {
  const { code, stderr } = await site.network.exec(site.network.router, argv, { timeoutMs: 20_000 })
  if (code !== 0) throw new Error(`${argv.join(' ')}: ${stderr.trim()}`)
}

/** Every server is a pod that a policy selects, every client one that it lets in. */
function world({ servers, clients }: Site): string {
  const pod = (address: string, role: string, i: number) =>
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: `${role}-${i}`, namespace: 'bench', labels: { role } },
      status: { podIPs: [{ ip: address }] },
    })
  const policy = JSON.stringify({
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name: 'servers', namespace: 'bench' },
    spec: {
      podSelector: { matchLabels: { role: 'server' } },
      ingress: [{ from: [{ podSelector: { matchLabels: { role: 'client' } } }], ports: [{ port: 1, endPort: 65535 }] }],
    },
  })
  const pods = [
    ...servers.map((address, i) => pod(address, 'server', i)),
    ...clients.map((address, i) => pod(address, 'client', i)),
  ]
  return [...pods, policy].join('\n---\n')
}
