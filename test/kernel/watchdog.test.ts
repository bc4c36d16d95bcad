import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { Agent } from '../../src/lab/agent.ts'
import { createNetwork } from '../../src/lab/network.ts'
import { slow } from '../slow.ts'
import { ManagedService } from './managed-service.ts'
import { knp, networkPolicy, pod, policies, skip } from './product.ts'

const client = ['10.77.1.2']
const db = ['10.77.2.2']
const ALLOWED = 80
/** The evaluator never comes to an end with it. */
const HANGS = 81
const WATCHDOG_MS = 4000 * slow

const hanging = `
import { identityTable, SELECTS_BOTH } from 'knp/engine'
const judge = (_subject, flow) => {
  while (flow.packet.destination.port === ${HANGS});
  return 'next'
}
export default {
  name: 'Hangs',
  compile(snapshot, identities) {
    return { selected: identityTable(identities, () => SELECTS_BOTH), tables: {} }
  },
  evaluate() {
    return {
      evaluateEgress: (flow) => judge(flow.sourceIdentity, flow),
      evaluateIngress: (flow) => judge(flow.destinationIdentity, flow),
    }
  },
}
`

t.test(
  'the manager hears of a firewall that decides, and nothing of one whose packet thread hangs',
  { skip },
  async (t) => {
    const network = await createNetwork({
      prefix: 'knpw',
      hosts: [
        { name: 'near', addresses: client },
        { name: 'far', addresses: db },
      ],
    })
    t.after(() => network.destroy())
    const folder = await policies()
    t.after(() => folder.close())
    await folder.write('all.yaml', [pod({ name: 'db', addresses: db }), networkPolicy('db', { ingress: [{}] })])
    await writeFile(join(folder.path, 'hanging.js'), hanging, { mode: 0o600 })
    const [near, far] = await Promise.all([Agent.start(network, 'near'), Agent.start(network, 'far')])
    await far.listen({ protocol: 'tcp', address: db[0]!, port: ALLOWED })
    const run = knp([
      'run',
      ...['--source', join(folder.path, 'all.yaml'), '--evaluator', join(folder.path, 'hanging.js')],
      ...['--control-socket', join(folder.path, '.control.sock'), '--state-dir', `${folder.path}.state`],
    ])
    const service = await ManagedService.create(network, {
      socket: join(folder.path, '.notify.sock'),
      command: ['env', `WATCHDOG_USEC=${WATCHDOG_MS * 1000}`, ...run],
      keeps: false,
    })
    t.after(() => service.close())
    await service.start()
    t.match(service.lines.at(-1), 'notified READY=1')
    const heard = (since: number) => service.told(since).filter((text) => text === 'WATCHDOG=1').length
    const probe = (port: number) => near.probe({ protocol: 'tcp', address: db[0]!, port, timeoutMs: 2000 * slow })

    t.equal((await probe(ALLOWED)).ok, true)
    const working = service.lines.length
    await sleep(WATCHDOG_MS)
    t.ok(heard(working) >= 2, `heard ${heard(working)} times, also without packets`)

    t.equal((await probe(HANGS)).ok, false)
    await sleep(WATCHDOG_MS / 2)
    const hung = service.lines.length
    await sleep(WATCHDOG_MS * 1.5)
    t.equal(heard(hung), 0, 'longer than it waits')
    await service.end('SIGKILL')
  },
)
