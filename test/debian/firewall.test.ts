import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import type { Finding } from '../../src/finding.ts'
import { knp, networkPolicy, Product } from '../kernel/product.ts'
import { slow } from '../slow.ts'
import { cache, counts, DENIED_AFTER_MS, db, listen, more, outcome, site } from './site.ts'

const policy = (port: number) =>
  networkPolicy('db', {
    podSelector: { matchLabels: { app: 'db' } },
    ingress: [{ ports: [{ port }, { protocol: 'UDP', port }] }],
  })
const timeoutMs = 20_000 * slow

t.test('doctor on a machine that has just started finds everything, and names the DNS race', async (t) => {
  t.notMatch(await readFile('/proc/modules', 'utf8'), /^nfnetlink_queue /m, 'the queues are not loaded yet')
  const [command, ...args] = knp(['doctor', '--json'])
  const { stdout } = await promisify(execFile)(command!, args)
  const { canEnforce, findings }: { canEnforce: boolean; findings: Finding[] } = JSON.parse(stdout)
  t.equal(canEnforce, true)
  const found = Object.fromEntries(findings.map(({ check, result, detail }) => [check, `${result}: ${detail}`]))
  t.match(found, {
    rules: /^ok: /,
    'divert rule': "ok: nft's own queue statement",
    queues: 'ok: none is bound',
    conntrack: /^ok: /,
    'DNS race': /^warn: kernel 6\.1\./,
  })
})

t.test("the firewall by nft's own queue statement", async (t) => {
  const { network, folder, near, far } = await site(t)
  await listen(far, [...db, ...cache], [80, 81])
  await folder.write('policy.yaml', [policy(80)])

  type Word = 'passes' | 'timeout'
  /** Whether ports 80 and 81 of db, and 80 of cache, which no policy selects, are reached: IPv4 and IPv6, TCP and UDP. */
  const reaches = async (t: Test, expected: readonly [Word, Word], name: string) => {
    const flows = [
      ['db:80', db, 80, expected[0]],
      ['db:81', db, 81, expected[1]],
      ['cache:80', cache, 80, 'passes'],
    ] as const
    const all = flows.flatMap(([text, addresses, port, word]) =>
      addresses.flatMap((address) =>
        (['tcp', 'udp'] as const).map(async (protocol) => [
          `${text}/${protocol} ${address}`,
          await outcome(near, protocol, address, port, word),
          word,
        ]),
      ),
    )
    const results = await Promise.all(all)
    t.same(
      results.map(([flow, word]) => `${flow} ${word}`),
      results.map(([flow, , word]) => `${flow} ${word}`),
      name,
    )
  }
  const connectAll = async (port: number) => {
    const opened = await Promise.all(
      db.flatMap((address) =>
        (['tcp', 'udp'] as const).map((protocol) => near.open({ protocol, address, port, timeoutMs: 2000 * slow })),
      ),
    )
    return async (nonce: string, expected: Word) => {
      const limitMs = expected === 'passes' ? 2000 * slow : DENIED_AFTER_MS
      const answers = await Promise.all(opened.map(({ connection }) => connection!.exchange(nonce, limitMs)))
      return [...new Set(answers.map(({ ok, error }) => (ok ? 'passes' : error)))].join()
    }
  }

  let product = await Product.start(network, folder)

  t.test('the rules in force', async (t) => {
    const status = await product.statusCommand('--json')
    t.match(JSON.parse(status.stdout), { enforcing: true, divertRule: 'nft queue' })
    const doctor = await network.exec(network.router, knp(['doctor', '--json']), { timeoutMs })
    const ruleset = JSON.parse(doctor.stdout).findings.find(({ check }: Finding) => check === 'ruleset')
    t.match(ruleset, { detail: 'table inet knp is in the kernel, divert rule: queue' })
    const listed = await network.exec(network.router, ['nft', 'list', 'ruleset'])
    t.match(listed.stdout, /chain divert_forward \{[^}]* queue flags bypass to \d+/)
    const loaded = await network.exec(network.router, ['nft', '-c', '-f', '-'], { input: listed.stdout })
    t.match(loaded, { code: 0, stderr: '' }, 'what nft lists, it loads')
  })

  t.test('connections are allowed and denied, every first packet counted once', async (t) => {
    const before = await counts(product)
    await reaches(t, ['passes', 'timeout'], 'by policy')
    t.same(await counts(product), more(before, 4, 4))
  })

  t.test('an edit changes new connections and cuts those that it denies', async (t) => {
    const established = await connectAll(80)
    t.equal(await established('before', 'passes'), 'passes')
    await product.change(() => folder.write('policy.yaml', [policy(81)]))
    await reaches(t, ['timeout', 'passes'], 'by the new policy')
    t.equal(await established('cut', 'timeout'), 'timeout')
    await product.change(() => folder.write('policy.yaml', [policy(80)]))
    await reaches(t, ['passes', 'timeout'], 'by the first again')
  })

  t.test('kill -9 under closed, and a restart', async (t) => {
    const established = await connectAll(80)
    t.equal(await established('one', 'passes'), 'passes')
    t.match(await product.stop('SIGKILL'), { signal: 'SIGKILL' })
    await reaches(t, ['timeout', 'timeout'], 'nothing new passes')
    t.equal(await established('two', 'passes'), 'passes', 'what was allowed before goes on')
    product = await Product.start(network, folder)
    await reaches(t, ['passes', 'timeout'], 'by policy again')
    t.equal(await established('three', 'passes'), 'passes')
    t.match(await product.stop(), { code: 0 })
  })

  t.test('kill -9 under open, and a restart', async (t) => {
    // What the kernel remembers as denied it would refuse for some seconds more.
    const args = ['--on-failure', 'open', '--remember-denied', '0s']
    product = await Product.start(network, folder, { args })
    await reaches(t, ['passes', 'timeout'], 'by policy')
    t.match(await product.stop('SIGKILL'), { signal: 'SIGKILL' })
    await reaches(t, ['passes', 'passes'], 'everything passes')
    const gap = await connectAll(81)
    t.equal(await gap('gap', 'passes'), 'passes')
    product = await Product.start(network, folder, { args })
    await reaches(t, ['passes', 'timeout'], 'by policy again')
    t.equal(await gap('judged', 'timeout'), 'timeout', 'what came about in the gap is judged')
    t.match(await product.stop(), { code: 0 })
  })

  t.test('several queues', async (t) => {
    product = await Product.start(network, folder, { args: ['--queue-count', '3'] })
    const listed = await network.exec(network.router, ['nft', 'list', 'ruleset'])
    t.match(listed.stdout, /chain divert_forward \{[^}]* queue flags bypass to 100-102\n/)
    await reaches(t, ['passes', 'timeout'], 'by policy')
    const { counters, queues } = await product.status()
    t.match(counters, { queued: 8, allowed: 4, denied: 4, unanswered: 0 })
    const judged = queues.map(({ packetThread }) => packetThread.queued)
    t.same(
      queues.map(({ statistics }) => statistics?.idSequence),
      judged,
      'each thread judged what its queue was given',
    )
    t.equal(
      judged.reduce((sum, n) => sum + n),
      8,
      `${judged}`,
    )
    t.match(await product.stop(), { code: 0 })
  })
})
