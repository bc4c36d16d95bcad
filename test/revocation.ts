import { parseArgs } from 'node:util'
import { type Revocation, revoke, touchedKinds } from './kernel/revocation.ts'

/**
 * How long a connection lives that a change forbids, and what that costs the others, with 1,000, 10,000 and 100,000 live
 * connections. `node test/revocation.ts [--live N --real N]`; exits 1 unless all are cut in time and nothing else is lost.
 */

const CUT_MS = 100

const { values } = parseArgs({ options: { live: { type: 'string' }, real: { type: 'string' } } })
const sizes =
  values.live === undefined
    ? [
        { live: 1000, real: 1000 },
        { live: 10_000, real: 5000 },
        { live: 100_000, real: 5000 },
      ]
    : [{ live: Number(values.live), real: Number(values.real ?? Math.min(Number(values.live), 5000)) }]

const columns = [
  'live',
  'sending',
  'changed',
  ...touchedKinds.map((kind) => `${kind} ms`),
  'lost',
  'sent again',
  'answers',
]
const line = (cells: readonly (string | number)[]) => cells.map((cell) => `${cell}`.padEnd(12)).join(' ')
console.log(`From the rename of a file to the last packet of the connections that it forbids; at most ${CUT_MS} ms:`)
console.log(line([...columns, '']))
for (const { live, real } of sizes) {
  for (const row of await revoke({ real, made: live - real })) {
    const isRight = row.lost === 0 && row.passedLater === 0 && touchedKinds.every((kind) => row.cutMs[kind] <= CUT_MS)
    if (!isRight) process.exitCode = 1
    console.log(line([...cellsOf(row), isRight ? '✓' : '✗']))
  }
}

function cellsOf({
  live,
  real,
  trigger,
  inForceMs,
  cutMs,
  passedLater,
  lost,
  retransmitted,
  answered,
}: Revocation): (string | number)[] {
  const times = touchedKinds.map((kind) => cutMs[kind].toFixed(0))
  return [live, real, trigger, inForceMs.toFixed(0), ...times, passedLater, lost, retransmitted, answered]
}
