import t from 'tap'
import { ApiServerFailsafe } from '../src/api-server-failsafe.ts'
import { formatFailsafe } from '../src/ruleset/failsafe.ts'

t.test('follows where an API server is', async (t) => {
  let server: { host: string; port: number } | undefined
  let found: readonly { address: string }[] | Error = []
  const failsafe = new ApiServerFailsafe([{ apiServer: () => server, connectAnew: () => {} }], async (host) => {
    t.equal(host, 'api.example')
    if (found instanceof Error) throw found
    return found
  })
  const rules = () => failsafe.rules.map(formatFailsafe)
  await failsafe.begin()
  t.same(rules(), [], 'nobody has said where it is')
  server = { host: 'api.example', port: 6443 }
  t.equal(await failsafe.update(), false, 'it has no address')
  found = [{ address: '192.0.2.9' }, { address: '2001:db8::9' }]
  t.equal(await failsafe.update(), true)
  t.same(rules(), ['tcp/6443@192.0.2.9/32,2001:db8::9/128'])
  found = [...found].reverse()
  t.equal(await failsafe.update(), false, 'in another order')
  found = new Error('ENOTFOUND')
  t.equal(await failsafe.update(), false)
  t.same(rules(), ['tcp/6443@192.0.2.9/32,2001:db8::9/128'], 'its last ones hold')
  found = [{ address: '192.0.2.10' }]
  t.equal(await failsafe.update(), true)
  t.same(rules(), ['tcp/6443@192.0.2.10/32'])
})

t.test('a name whose answers take turns settles, and one that moves is followed at once', async (t) => {
  let found: readonly string[] = []
  let nowMs = 0
  const cluster = { apiServer: () => ({ host: 'api.example', port: 443 }), connectAnew: () => {} }
  const failsafe = new ApiServerFailsafe(
    [cluster],
    async () => found.map((address) => ({ address })),
    () => nowMs,
  )
  /** What is in the failsafe after each answer, 10 s apart; changes are marked. */
  const answers = async (...list: readonly string[]) => {
    const seen: string[] = []
    for (const last of list) {
      nowMs += 10_000
      found = [...last].map((digit) => `192.0.2.${digit}`)
      const isOther = await failsafe.update()
      const text = failsafe.rules
        .map(formatFailsafe)
        .join()
        .replaceAll(/tcp\/443@|192\.0\.2\.|\/32|,/g, '')
      seen.push(`${text}${isOther ? '!' : ''}`)
    }
    return seen
  }
  t.same(await answers('1', '1', '2', '1', '2', '1', '2'), ['1!', '1', '2!', '1!', '12!', '12', '12'], 'one at a time')
  t.same(await answers('3'), ['123!'], 'a third one')
  t.same(await answers('1', '2', '3', '1'), ['12!', '12', '123!', '123'], 'that comes again')
  t.same(await answers('4', '4'), ['1234!', '1234'], 'it moves')
  t.equal((await answers(...Array<string>(62).fill('4'))).at(-1), '4', 'what does not come back is forgotten')
  t.same(await answers(''), ['4'], 'no address is no answer')
})

t.test('an address is looked up as it is', async (t) => {
  const failsafe = new ApiServerFailsafe([
    { apiServer: () => ({ host: '127.0.0.1', port: 443 }), connectAnew: () => {} },
  ])
  await failsafe.begin()
  t.same(failsafe.rules.map(formatFailsafe), ['tcp/443@127.0.0.1/32'])
})

t.test('nothing waits for a resolver that does not answer', async (t) => {
  const clusters = [{ apiServer: () => ({ host: 'api.example', port: 443 }), connectAnew: () => {} }]
  const failsafe = new ApiServerFailsafe(clusters, () => new Promise(() => {}))
  await failsafe.begin()
  t.same(failsafe.rules, [])
})
