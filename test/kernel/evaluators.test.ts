import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Agent } from '../../src/lab/agent.ts'
import { createNetwork } from '../../src/lab/network.ts'
import { forgetful, networkPolicy, Product, pod, policies, skip } from './product.ts'

const clients = { web: ['10.77.1.2', 'fd77:1::2'], api: ['10.77.1.3', 'fd77:1::3'] } as const
const db = ['10.77.2.2', 'fd77:2::2'] as const
const PORT = 80
/** Shorter than the time until a SYN is sent again. */
const DENIED_AFTER_MS = 500

/** Cuts off what is labelled `quarantine: "true"`; fails where it judges what is labelled `quarantine: broken`. */
const quarantine = `
import { identityTable, SELECTS_BOTH } from 'knp/engine'
const words = { true: 1, broken: 2 }
export default {
  name: 'Quarantine',
  compile(snapshot, identities) {
    const levels = identityTable(identities, ({ labels }) => words[labels.get('quarantine')] ?? 0)
    return { selected: levels.map((level) => (level > 0 ? SELECTS_BOTH : 0)), tables: { levels } }
  },
  evaluate({ levels }) {
    const judge = (subject) => {
      if (levels[subject] === 2) throw new Error('broken')
      return 'deny'
    }
    return {
      evaluateEgress: (flow) => judge(flow.sourceIdentity),
      evaluateIngress: (flow) => judge(flow.destinationIdentity),
    }
  },
}
`

/** The module in a folder that only its owner may write. */
async function moduleFile(test: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'knp-evaluators-'))
  test.after(() => rm(folder, { recursive: true, force: true }))
  const path = join(folder, 'quarantine.js')
  await writeFile(path, quarantine, { mode: 0o600 })
  return path
}

t.test('an evaluator of a third party denies real packets', { skip }, async (t) => {
  const network = await createNetwork({
    prefix: 'knpe',
    hosts: [
      { name: 'near', addresses: Object.values(clients).flat() },
      { name: 'far', addresses: [...db] },
    ],
  })
  t.after(() => network.destroy())
  const folder = await policies()
  t.after(() => folder.close())
  const near = await Agent.start(network, 'near')
  const far = await Agent.start(network, 'far')
  for (const address of db) await far.listen({ protocol: 'tcp', address, port: PORT })

  const write = (quarantine: Readonly<Record<string, string>>) =>
    folder.write('world.yaml', [
      pod({ name: 'web', addresses: clients.web, labels: quarantine }),
      pod({ name: 'api', addresses: clients.api }),
      pod({ name: 'db', addresses: db }),
      networkPolicy('db', { podSelector: { matchLabels: { app: 'db' } }, ingress: [{}] }),
    ])
  await write({})
  const product = await Product.start(network, folder, { args: ['--evaluator', await moduleFile(t), ...forgetful] })

  async function outcome(from: keyof typeof clients): Promise<string[]> {
    return Promise.all(
      db.map(async (address, i) => {
        const probe = { protocol: 'tcp', address, port: PORT, sourceAddress: clients[from][i]! } as const
        const answer = await near.probe({ ...probe, timeoutMs: DENIED_AFTER_MS })
        return answer.ok ? 'allowed' : answer.error === 'timeout' ? 'denied' : `${answer.error}`
      }),
    )
  }
  const counts = async () => {
    const { allowed, denied, failed } = (await product.status()).packetThread
    return { allowed, denied, failed }
  }

  t.same((await product.status()).pipeline, ['Admin', 'Quarantine', 'NetworkPolicy', 'Baseline'])
  t.match((await product.statusCommand()).stdout, /^pipeline +Admin, Quarantine, NetworkPolicy, Baseline$/m)
  t.same(await outcome('web'), ['allowed', 'allowed'], 'NetworkPolicy allows it')
  t.same(await outcome('api'), ['allowed', 'allowed'])
  t.same(await counts(), { allowed: 4, denied: 0, failed: 0 })

  await product.change(() => write({ quarantine: 'true' }))
  t.same(await outcome('web'), ['denied', 'denied'], 'in quarantine')
  t.same(await outcome('api'), ['allowed', 'allowed'], 'another pod, on the same path')
  t.same(await counts(), { allowed: 6, denied: 2, failed: 0 })

  await product.change(() => write({ quarantine: 'broken' }))
  t.same(await outcome('web'), ['denied', 'denied'], 'an evaluator that throws denies')
  t.same(await outcome('api'), ['allowed', 'allowed'], 'and nobody else is hurt')
  t.same(await counts(), { allowed: 8, denied: 2, failed: 2 })

  await product.change(() => write({}))
  t.same(await outcome('web'), ['allowed', 'allowed'], 'released')
  t.match(await product.stop(), { code: 0 })
})
