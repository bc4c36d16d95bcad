import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Agent } from '../../src/lab/agent.ts'
import { createNetwork, type Network } from '../../src/lab/network.ts'
import { slow } from '../slow.ts'
import { forgetful, knp, networkPolicy, type Policies, Product, pod, policies, skip } from './product.ts'
import { noTerminal, Terminal } from './terminal.ts'

const web = ['10.77.1.2', 'fd77:1::2'] as const
const db = ['10.77.2.2', 'fd77:2::2'] as const
const small = [80, 24] as const
const large = [160, 50] as const
/** Shorter than the time until a SYN is sent again. */
const DENIED_AFTER_MS = 500
/** Starting takes a while where much else goes on. */
const timeout = 120_000 * slow

const objects = [
  pod({ name: 'web', addresses: web }),
  pod({ name: 'db', addresses: db, node: 'edge' }),
  networkPolicy('db-only', { podSelector: { matchLabels: { app: 'db' } }, ingress: [{ ports: [{ port: 80 }] }] }),
]

interface Site {
  readonly network: Network
  readonly folder: Policies
  readonly socket: string
  /** Tries to connect so many times, from ports of their own; answers how many were answered. */
  connect(times: number, family: 0 | 1, port: number): Promise<number>
}

async function site(t: Test): Promise<Site> {
  const network = await createNetwork({
    prefix: 'knpdb',
    hosts: [
      { name: 'near', addresses: web },
      { name: 'far', addresses: db },
    ],
  })
  t.after(() => network.destroy())
  const folder = await policies()
  t.after(() => folder.close())
  await folder.write('all.yaml', objects)
  const [near, far] = await Promise.all(['near', 'far'].map((name) => Agent.start(network, name)))
  for (const address of db) for (const port of [80, 81]) await far!.listen({ protocol: 'tcp', address, port })
  return {
    network,
    folder,
    socket: join(folder.path, '.control.sock'),
    async connect(times, family, port) {
      let answered = 0
      for (let i = 0; i < times; i++) {
        const probe = { protocol: 'tcp', address: db[family], port, timeoutMs: DENIED_AFTER_MS * slow } as const
        if ((await near!.probe(probe)).ok) answered++
      }
      return answered
    },
  }
}

function open(t: Test, argv: readonly string[], size: readonly [number, number]): Terminal {
  const terminal = new Terminal(argv, size)
  t.after(() => terminal.close())
  return terminal
}

const terminalOnly = { skip: skip || noTerminal, timeout }

t.test('the screen agrees with what was sent', terminalOnly, async (t) => {
  const { network, folder, socket, connect } = await site(t)
  const product = await Product.start(network, folder, { args: ['--node-name', 'edge', ...forgetful] })
  t.after(() => product.stop())
  const terminal = open(t, knp(['dashboard', '--control-socket', socket], { NO_COLOR: '1', CI: 'true' }), small)
  await terminal.shows(/^ENFORCING {2}healthy {2}mode enforce {2}generation 1/m)
  await terminal.shows(/^ {2}nothing was decided yet$/m)

  t.equal(await connect(7, 0, 80), 7)
  t.equal(await connect(3, 0, 81), 0)
  t.equal(await connect(2, 1, 81), 0)
  await terminal.shows(/^allowed .* 7 denied .* 5$/m)
  await terminal.shows(/^remembered .* 0 no verdict .* 0$/m)
  await terminal.shows(/^ {7}5 shop\/web -> shop\/db:81\/tcp +7 {6}5 {6}0 shop\/db-only$/m)
  t.match(terminal.screen(), /^[> ] \d\d:\d\d:\d\d DENIED {2}shop\/web -> shop\/db:81\/tcp .*shop\/db-only isolates$/m)
  t.match(terminal.screen(), /^[> ] \d\d:\d\d:\d\d ALLOWED shop\/web -> shop\/db:80\/tcp .*shop\/db-only rule 0$/m)
  const { counters } = await product.status()
  t.match(counters, { allowed: 7, denied: 5, unanswered: 0 }, 'the firewall counted the same')
  t.notMatch(terminal.styledScreen(), '\u001b', 'no colours where NO_COLOR is set')

  t.test('filter', async (t) => {
    terminal.press('/allowed')
    await terminal.shows(/^\/allowed_ {3}Enter: take it/m)
    terminal.press('Enter')
    t.notMatch(await terminal.shows(/^> Flows by time · filter "allowed"/m), /DENIED/)
    terminal.press('Escape')
    await terminal.shows(/^> Flows by time ─/m)
    terminal.press('/denied', 'Enter')
    t.notMatch(await terminal.shows(/^> Flows by time · filter "denied"/m), /ALLOWED/)
    terminal.press('Escape')
    await terminal.shows(/^> Flows by time ─/m)
  })

  t.test('pause, and go on', async (t) => {
    terminal.press('p')
    await terminal.shows(/PAUSED, 0 since/)
    await connect(1, 0, 80)
    await terminal.shows(/PAUSED, 1 since/)
    t.match(await terminal.shows(/ 8 {6}5 {6}0 shop\/db-only/), /PAUSED/, 'counting goes on')
    terminal.press('p')
    t.notMatch(await terminal.shows(/^> Flows by time ─/m), /PAUSED/)
  })

  t.test('Enter explains as `knp explain` does', async (t) => {
    terminal.resize(...large)
    terminal.press('Tab')
    await terminal.shows(/^> Most denied/m)
    terminal.press('Enter')
    const screen = await terminal.shows(/^DENIED {2}shop\/web -> shop\/db:81\/tcp$/m)
    const { stdout } = await product.command(['explain', web[1], `[${db[1]}]:81`, '--live'])
    t.match(stdout, /^DENIED/)
    t.ok(screen.includes(stdout.trimEnd()), `${stdout}\nis not in\n${screen}`)
    terminal.press('Escape')
    await terminal.shows(/^> Most denied/m)
    terminal.press('?')
    await terminal.shows(/^ queues +of each/m)
    terminal.press('Escape')
    await terminal.shows(/^> Most denied/m)
    terminal.resize(...small)
  })

  t.test('a firewall that is killed and comes back', async (t) => {
    await product.stop('SIGKILL')
    const lost = await terminal.shows(/^NO ANSWER since \d\d:\d\d:\d\d: what is shown is old/m)
    t.match(lost, /^[> ] {6}5 shop\/web -> shop\/db:81/m, 'the last picture stays')
    const next = await Product.start(network, folder, { args: ['--node-name', 'edge', ...forgetful] })
    t.after(() => next.stop())
    t.notMatch(await terminal.shows(/^ENFORCING/), /NO ANSWER/)
    await connect(2, 1, 80)
    await terminal.shows(/ 2 {6}0 {6}0 shop\/db-only/)
  })

  t.test('the end leaves the terminal as it was', async (t) => {
    terminal.press('q')
    t.equal((await terminal.shows(/^status 0$/m)).trim(), 'status 0')
  })
})

t.test('knp run --dashboard', terminalOnly, async (t) => {
  const { network, folder, socket, connect } = await site(t)
  const args = ['--source', folder.path, '--control-socket', socket, '--state-dir', `${folder.path}.state`]
  const run = knp(['run', ...args, '--node-name', 'edge', ...forgetful, '--dashboard'])
  const start = () => open(t, ['ip', 'netns', 'exec', network.namespaceOf(network.router), ...run], small)
  const terminal = start()
  await terminal.shows(/^ENFORCING {2}healthy/m)
  t.equal(await connect(1, 0, 80), 1)
  t.equal(await connect(1, 0, 81), 0)
  await folder.write('more.yaml', [pod({ name: 'other', addresses: ['10.77.3.2'] })])
  const screen = await terminal.shows(/^ENFORCING {2}healthy {2}mode enforce {2}generation 2/m)
  t.match(screen, /^\?: help/m)
  t.notMatch(screen, 'in force', 'what the firewall says does not go through the screen')
  terminal.press('q')
  await terminal.shows(/^This ends the firewall/m)
  terminal.press('x')
  await terminal.shows(/^\?: help/m)
  terminal.press('q', 'q')
  const last = await terminal.shows(/^status 0$/m)
  t.match(last, /^enforcing: 1 policy/m)
  t.match(last.replaceAll('\n', ' '), /generation 2 in force: .*stopped; the rules stay/, 'it is said behind it')
  t.equal(await connect(1, 0, 80), 0, 'the firewall has ended, closed')

  const again = start()
  await again.shows(/^ENFORCING {2}healthy/m)
  again.press('C-c')
  await again.shows(/^status 0$/m)

  const killed = start()
  await killed.shows(/^ENFORCING {2}healthy/m)
  process.kill(await processOf(`dashboard --owner --control-socket ${socket}`), 'SIGKILL')
  await killed.shows(/^warning: the dashboard was ended by SIGKILL; the firewall goes on/m)
  t.equal(await connect(1, 0, 80), 1, 'the firewall goes on')
  t.equal(await connect(1, 0, 81), 0)
  killed.press('C-c')
  await killed.shows(/^status 0$/m)
})

/** The one process that was started with these arguments at its end. */
async function processOf(args: string): Promise<number> {
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const words = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    if (words.split('\0').join(' ').trimEnd().endsWith(args)) return Number(pid)
  }
  throw new Error(`no process was started with ${args}`)
}

t.test('without a terminal', { skip, timeout }, async (t) => {
  const { network, folder, socket, connect } = await site(t)
  const nobody = await network.exec(network.router, knp(['dashboard', '--control-socket', socket]))
  t.equal(nobody.code, 4)
  t.match(nobody.stderr, 'no firewall runs here')
  // As it is: the kernel answers what was answered before, and that counts for who decided it.
  const product = await Product.start(network, folder, { args: ['--node-name', 'edge'] })
  t.after(() => product.stop())
  await connect(2, 0, 80)
  await connect(3, 0, 81)

  const picture = await product.command(['dashboard'])
  t.equal(picture.code, 0)
  t.notMatch(picture.stdout, /[^\P{C}\n]/u)
  t.match(picture.stdout, /^ENFORCING {2}healthy/)
  t.match(picture.stdout, /^allowed .* 1 denied .* 1$/m)
  t.match(picture.stdout, /^remembered .* 3 no verdict .* 0$/m)
  t.match(picture.stdout, /^ {7}\d shop\/web -> shop\/db:81\/tcp$/m)
  t.match(picture.stdout, /^ {7}2 {6}3 {6}0 shop\/db-only$/m)

  const json = await product.command(['dashboard', '--json'])
  t.equal(json.code, 0)
  t.match(JSON.parse(json.stdout), {
    schema: 'knp.dashboard/v1',
    status: { schema: 'knp.status/v1', health: 'healthy' },
    rates: [
      { name: 'allowed', perSecond: 0, total: 1 },
      { name: 'denied', perSecond: 0, total: 1 },
      { name: 'remembered', total: 3 },
      { name: 'no verdict', total: 0 },
    ],
    denied: [{ verdict: 'deny', last: { schema: 'knp.flow/v1' } }],
    policies: [{ policy: { namespace: 'shop', name: 'db-only' }, allowed: 2, denied: 3, audit: 0 }],
  })
  const refused = await network.exec(network.router, knp(['run', '--source', folder.path, '--dashboard']))
  t.equal(refused.code, 2)
  t.match(refused.stderr, '--dashboard: this is no terminal')
})
