import { constants } from 'node:os'
import t from 'tap'
import { clockMs } from '../../src/clock.ts'
import { NetlinkError } from '../../src/native/netlink.ts'
import { type GuardEvent, TableGuard } from '../../src/ruleset/guard.ts'
import type { Ruleset, Wanted } from '../../src/ruleset/ruleset.ts'

/** A guard of a table that is as `examine` says, and what became of it. */
function guarded(examine: (depth: string) => readonly string[]) {
  const events: GuardEvent[] = []
  const installed: unknown[] = []
  const ruleset = { examine, install: async (wanted: Wanted) => installed.push(wanted) }
  const guard = new TableGuard(ruleset as unknown as Ruleset, (event) => events.push(event))
  const repair = (wanted = 'rules') => guard.repair(() => wanted as unknown as Wanted, new AbortController().signal)
  return { guard, events, installed, repair }
}

t.test('without a reason nothing is looked at', async (t) => {
  const { guard, events } = guarded(() => {
    throw new Error('looked')
  })
  guard.examine()
  t.ok(guard.isInForce)
  t.same(events, [])
})

t.test('a table that was changed is told and installed again', async (t) => {
  const { guard, events, installed, repair } = guarded(() => ['chain a', 'chain b', 'set c', 'set d'])
  guard.suspect({ program: 'nft', depth: 'rules', atMs: clockMs() - 50 })
  guard.examine()
  t.notOk(guard.isInForce)
  t.equal(guard.repairs, 0)
  await repair('as they are wanted')
  t.ok(guard.isInForce)
  t.equal(guard.repairs, 1)
  t.same(installed, ['as they are wanted'])
  const [problem, repaired] = events
  t.equal(problem!.message, 'another program (nft) has changed table inet knp (chain a, chain b, set c and 1 more)')
  t.match(repaired, { type: 'repaired', message: /^the rules of table inet knp are in force again, \d+ ms/ })
  t.ok(repaired?.type === 'repaired' && repaired.goneMs >= 50)
})

t.test('suspicions are taken together: the deepest look, the first time, the last name', async (t) => {
  const depths: string[] = []
  const { guard, events, repair } = guarded((depth) => {
    depths.push(depth)
    return ['set a']
  })
  guard.suspect({ program: 'first', depth: 'withSubjects', atMs: clockMs() - 1000 })
  guard.suspect({ program: 'last', depth: 'rules', atMs: clockMs() })
  guard.suspect({ depth: 'rules', atMs: clockMs() })
  guard.examine()
  t.same(depths, ['withSubjects'])
  t.match(events[0]!.message, 'another program (last)')
  await repair()
  const [, repaired] = events
  t.ok(repaired?.type === 'repaired' && repaired.goneMs >= 1000)
  guard.examine()
  t.same(depths, ['withSubjects'], 'each is looked into once')
})

t.test('a table that changes while it is read is looked at again', async (t) => {
  let looks = 0
  const { guard } = guarded(() => {
    if (++looks === 1)
      throw new NetlinkError('list', [{ index: -1, errno: constants.errno.EINTR, explanation: undefined }])
    return []
  })
  guard.suspect({ depth: 'rules', atMs: clockMs() })
  guard.examine()
  t.ok(guard.isInForce, 'what was read means nothing')
  guard.examine()
  t.equal(looks, 2)
  t.ok(guard.isInForce)
})

t.test('another program that goes on and on is named, and answered ever later', async (t) => {
  const { guard, events, repair } = guarded(() => ['chain a'])
  t.equal(guard.problem, undefined)
  for (let i = 0; i < 11; i++) {
    guard.suspect({ program: 'loop', depth: 'rules', atMs: clockMs() })
    guard.examine()
    await repair()
  }
  t.equal(guard.problem, 'another program (loop) keeps changing table inet knp: 11 repairs in 10 s')
  t.match(events.at(-2)!.message, /10 repairs in 10 s; the next one waits 10 ms$/)
})

t.test('who is stopped while it waits installs nothing', async (t) => {
  const { guard, installed } = guarded(() => ['chain a'])
  guard.breakSince(clockMs())
  await guard.repair(() => 'rules' as unknown as Wanted, AbortSignal.abort())
  t.same(installed, [])
  t.notOk(guard.isInForce)
})
