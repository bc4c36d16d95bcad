import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { configDefaults } from '../../../src/config.ts'
import { DEFAULT_CONNECTION_MASK, DEFAULT_PACKET_MASK, layoutMarks, nextStamp } from '../../../src/datapath/marks.ts'
import { type Address, formatAddress } from '../../../src/engine/address.ts'
import { differences, readFingerprint } from '../../../src/native/fingerprint.ts'
import { type KernelWatch, type KernelWatchOptions, watchKernel } from '../../../src/native/kernel-watch.ts'
import type { TableChange } from '../../../src/native/kernel-watch-thread.ts'
import { type LocalAddress, openAddressLister } from '../../../src/native/local-addresses.ts'
import { openNetlink } from '../../../src/native/netlink.ts'
import { defaultFailsafe } from '../../../src/ruleset/failsafe.ts'
import { type ChangeTracker, Ruleset, removeRuleset, type Wanted } from '../../../src/ruleset/ruleset.ts'
import { TABLE } from '../../../src/ruleset/text.ts'
import { nft } from './traffic.ts'

const marks = layoutMarks(DEFAULT_PACKET_MASK, DEFAULT_CONNECTION_MASK)!
const config = {
  marks,
  onFailure: 'closed',
  denyWith: 'drop',
  failsafe: defaultFailsafe,
  queue: 87,
  remember: configDefaults.remember,
  queuesTotal: 1,
} as const
const netlink = openNetlink()
t.teardown(() => netlink.close())
t.setTimeout(120_000)
t.afterEach(() => removeRuleset())

/** A watch that keeps what it is told. */
async function watch(t: Test, options: Partial<KernelWatchOptions> = {}) {
  const changes: TableChange[] = []
  const listings: (readonly LocalAddress[])[] = []
  let wake = () => {}
  const kernel = await watchKernel(
    { table: TABLE, ...options },
    {
      tableChanged: (change) => changes.push(change),
      addressesChanged: (addresses) => {
        listings.push(addresses)
        wake()
      },
      failed: (error) => t.fail('the watch failed', { error }),
    },
  )
  t.teardown(() => kernel.stop())
  const listed = (count: number) =>
    new Promise<void>((resolve) => {
      wake = () => listings.length >= count && resolve()
      wake()
    })
  return { kernel, changes, listings, listed }
}

function wanted(subjects: readonly Address[], stamp: number): Wanted {
  return { subjects, answerStamp: stamp, host: undefined }
}

async function install(t: Test, tracker: ChangeTracker, subjects: readonly Address[] = []): Promise<Ruleset> {
  const ruleset = new Ruleset(config, tracker)
  t.teardown(() => ruleset.close())
  await ruleset.install(wanted(subjects, 1))
  return ruleset
}

function addresses(count: number, first = 0): readonly Address[] {
  return Array.from({ length: count }, (_, i) => ({ w0: 0, w1: 0, w2: 0xffff, w3: (10 << 24) + first + i }))
}

t.test('our own changes are not reported: an install and 1,000 updates', async (t) => {
  const { kernel, changes } = await watch(t)
  const ruleset = await install(t, kernel)
  let stamp = 1
  for (let i = 0; i < 1000; i++) {
    // A new stamp takes a look at all connections.
    if (i % 50 === 0) stamp = nextStamp(stamp)
    ruleset.update(wanted(addresses(5, i), stamp))
  }
  t.equal(await kernel.settle(), 0)
  t.same(changes, [])
  t.same(ruleset.examine('withSubjects'), [])
})

t.test('100,000 elements of our own', async (t) => {
  const many = addresses(100_000)
  const tookMs = (ruleset: Ruleset) => {
    const started = performance.now()
    ruleset.update(wanted(many, 2))
    const added = performance.now()
    ruleset.update(wanted([], 3))
    return `added in ${Math.round(added - started)} ms, removed in ${Math.round(performance.now() - added)} ms`
  }
  const alone = new Ruleset(config)
  await alone.install(wanted([], 1))
  t.comment(`without a watch: ${tookMs(alone)}`)
  alone.close()
  await removeRuleset()

  const { kernel, changes } = await watch(t)
  const ruleset = await install(t, kernel)
  t.comment(`watched: ${tookMs(ruleset)}`)
  t.equal(await kernel.settle(), 0)
  t.same(changes, [])
})

t.test("other tables' changes are not reported", async (t) => {
  const { kernel, changes } = await watch(t)
  const ruleset = await install(t, kernel)
  nft(
    'table inet knp2 {\n chain x { type filter hook input priority 0; policy accept; tcp dport { 1, 2 } accept\n }\n }',
  )
  nft('table ip knp {\n set x { type ipv4_addr; elements = { 10.0.0.1 }\n }\n }')
  nft('delete table inet knp2\ndelete table ip knp')
  t.equal(await kernel.settle(), 0)
  t.same(changes, [])
  t.same(ruleset.examine('withSubjects'), [])
})

t.test('each change by another program is reported with its name, and seen', async (t) => {
  const { kernel, changes } = await watch(t)
  const subjects = addresses(3)
  const ruleset = await install(t, kernel, subjects)
  const reference = readFingerprint(netlink, TABLE)
  const handle = (chain: string) =>
    /accept # handle (\d+)/.exec(execFileSync('nft', ['-a', 'list', 'chain', 'inet', TABLE, chain]).toString())![1]
  const harm: [script: () => string, wrong: string | RegExp, touchesElements: boolean][] = [
    [() => 'flush ruleset', 'table', false],
    [() => 'delete table inet knp', 'table', false],
    [() => 'flush table inet knp', /^chain after,/, false],
    [() => `delete rule inet knp known handle ${handle('known')}`, 'chain known', false],
    [() => 'add rule inet knp prepare accept', 'chain prepare', false],
    [() => 'insert rule inet knp before_input accept', 'chain before_input', false],
    [() => 'flush chain inet knp divert_forward', 'chain divert_forward', false],
    [() => 'flush chain inet knp after_input\ndelete chain inet knp after_input', 'chain after_input', false],
    [() => 'add chain inet knp before_input { policy drop; }', 'chain before_input', false],
    [() => 'add chain inet knp x\nadd chain inet knp y\nadd rule inet knp x jump y', 'chain x,chain y', false],
    [() => 'add chain inet knp x\ninsert rule inet knp judge jump x', 'chain judge,chain x', false],
    [() => 'add set inet knp x { type mark; }', 'set x', false],
    [
      () => 'add chain inet knp stranger { type filter hook input priority -300; policy drop; }',
      'chain stranger',
      false,
    ],
    [
      () =>
        'flush chain inet knp before_input\ndelete chain inet knp before_input\n' +
        'add chain inet knp before_input { type filter hook input priority 7; policy accept; }',
      'chain before_input',
      false,
    ],
    [() => 'add table inet knp { flags dormant; }', 'table', false],
    [() => 'flush set inet knp subjects4', 'elements of set subjects4', true],
    [() => 'delete element inet knp subjects4 { 10.0.0.1 }', 'elements of set subjects4', true],
    [
      () => 'delete element inet knp subjects4 { 10.0.0.1 }\nadd element inet knp subjects4 { 10.9.9.9 }',
      'elements of set subjects4',
      true,
    ],
    [() => 'flush set inet knp stamped', 'elements of set stamped', true],
  ]
  const took: number[] = []
  for (const [script, wrong, touchesElements] of harm) {
    const text = script()
    const before = await kernel.settle()
    nft(text.replaceAll('; }', ';\n }'))
    t.ok((await kernel.settle()) > before, text)
    const merged = changes.splice(0)
    t.equal(merged.at(-1)?.program, 'nft', 'by name')
    t.equal(
      merged.some((change) => change.touchesElements),
      touchesElements,
    )
    const started = performance.now()
    const seen = ruleset.examine('withSubjects').join()
    took.push(performance.now() - started)
    if (typeof wrong === 'string') t.equal(seen, wrong)
    else t.match(seen, wrong)
    await ruleset.install(wanted(subjects, 1))
    t.same(ruleset.examine('withSubjects'), [], 'repaired')
    t.same(differences(reference, readFingerprint(netlink, TABLE)), [], 'to what it was')
  }
  for (let i = 0; i < 200; i++) {
    const started = performance.now()
    ruleset.examine('rules')
    took.push(performance.now() - started)
  }
  took.sort((a, b) => a - b)
  const medianMs = took[took.length >> 1]!
  t.comment(`an examination takes ${medianMs.toFixed(2)} ms (median)`)
})

t.test('events that the kernel had to leave out count as a change', async (t) => {
  nft('table inet knp')
  const { kernel, changes } = await watch(t, { receiveBufferBytes: 4096 })
  const before = await kernel.settle()
  const elements = Array.from({ length: 5000 }, (_, i) => `10.1.${i >> 8}.${i & 255}`)
  // Whether the buffer overflows depends on how soon the watch reads: it is filled until it does.
  for (let attempts = 0; changes.length === 0 && attempts < 50; attempts++) {
    nft(`table ip other {\n set x { type ipv4_addr; elements = { ${elements} }\n }\n }\ndelete table ip other`)
    await kernel.settle()
  }
  t.ok((await kernel.settle()) > before, 'though the table was another one')
  t.match(changes[0], { isLost: true, touchesElements: true })
})

t.test('a change by others beside a large one of our own is noticed', async (t) => {
  const { kernel, changes } = await watch(t)
  const ruleset = await install(t, kernel)
  kernel.unheard(() => ruleset.update(wanted([], 2)))
  t.equal(await kernel.settle(), 0, 'one transaction of our own is no change')
  kernel.unheard(() => {
    ruleset.update(wanted([], 3))
    nft('add rule inet knp prepare accept')
  })
  t.ok((await kernel.settle()) > 0)
  t.match(changes[0], { isLost: true, touchesElements: true })
  t.same(ruleset.examine('rules'), ['chain prepare'])
})

t.test('a change in the middle of an install', async (t) => {
  // The ruleset announces its socket, nft for the objects, and nft for the rules, when the chains are there already.
  const disturbed = (kernel: KernelWatch, times: number, script: string) => {
    let announced = 0
    const tracker: ChangeTracker = {
      own(portId) {
        if (++announced > 1 && announced % 2 === 1 && times-- > 0) nft(script)
        return kernel.own(portId)
      },
      unheard: (change) => kernel.unheard(change),
      settle: () => kernel.settle(),
    }
    return tracker
  }
  const stranger = 'add chain inet knp stranger { type filter hook input priority -300; policy accept;\n }'
  const rule = 'insert rule inet knp divert_input accept'

  t.test('is not taken for what the table should be', async (t) => {
    const clean = await install(t, (await watch(t)).kernel)
    const reference = readFingerprint(netlink, TABLE)
    t.same(clean.examine('rules'), [])
    for (const script of [stranger, rule]) {
      await removeRuleset()
      const ruleset = await install(t, disturbed((await watch(t)).kernel, 1, script))
      t.same(differences(reference, readFingerprint(netlink, TABLE)), [], script)
      t.same(ruleset.examine('withSubjects'), [])
      nft(script)
      const again = new Ruleset(config, disturbed((await watch(t)).kernel, 1, script))
      t.teardown(() => again.close())
      await again.install(wanted([], 1))
      t.same(differences(reference, readFingerprint(netlink, TABLE)), [], `taken over: ${script}`)
    }
  })

  t.test('again and again ends in an error that says so', async (t) => {
    const ruleset = new Ruleset(config, disturbed((await watch(t)).kernel, 100, rule))
    t.teardown(() => ruleset.close())
    await t.rejects(ruleset.install(wanted([], 1)), { code: 'RULESET', message: /another program keeps changing it/ })
  })
})

t.test('addresses that come and go', async (t) => {
  const lister = openAddressLister()
  t.teardown(() => lister.close())
  const { kernel, listings, listed } = await watch(t)
  t.same(kernel.addresses, lister.list())
  const names = (list: readonly LocalAddress[]) => list.map(({ address }) => formatAddress(address))
  t.same(names(kernel.addresses).sort(), ['127.0.0.1', '::1'])
  let count = 0
  for (const [address, flags] of [
    ['10.20.30.40/24', []],
    ['fd99::40/64', ['nodad']],
  ] as const) {
    for (const action of ['add', 'del'] as const) {
      execFileSync('ip', ['addr', action, address, 'dev', 'lo', ...(action === 'add' ? flags : [])])
      const started = performance.now()
      await listed(++count)
      const tookMs = performance.now() - started
      t.ok(tookMs < 100, `${action} ${address}: reported after ${tookMs.toFixed(1)} ms`)
      t.equal(names(listings.at(-1)!).includes(address.split('/')[0]!), action === 'add')
    }
  }
  t.same(listings.at(-1), kernel.addresses)
})

for (const how of ['exit', 'throw', 'stop'] as const) {
  t.test(`a process that watches ends by ${how}`, async (t) => {
    const script = fileURLToPath(new URL('./watching.ts', import.meta.url))
    const child = spawn(process.execPath, ['--no-warnings', script, how], { stdio: ['pipe', 'pipe', 'ignore'] })
    await once(child.stdout, 'data')
    const started = performance.now()
    child.stdin.end()
    const [code] = await once(child, 'exit')
    const tookMs = Math.round(performance.now() - started)
    t.equal(code, how === 'throw' ? 1 : 0)
    t.ok(tookMs < 800, `it took ${tookMs} ms`)
  })
}
