import { parseArgs } from 'node:util'
import { type Fault, type Finding, faults, type Way, ways } from './fixtures/faults.ts'
import { makeFaultyCopy } from './fixtures/faulty-copy.ts'

/**
 * Puts mistakes into a copy of the engine, one at a time, and says who notices: the cases, the oracle, or the comparison
 * of changes with compiling afresh. `node test/seeded-faults.ts [--markdown] [--only TEXT] [--worlds N] [--chains N]`;
 * exits 1 if nobody notices one of them, or if the engine without a fault is found faulty.
 */

const COPIES = 2
const LIMIT_MS = 180_000
/** What nobody notices is looked for again, this many times as long. */
const LONGER = 10

interface Row {
  readonly fault: Fault
  readonly findings: Readonly<Record<Way, Finding>>
}

const { values } = parseArgs({
  options: {
    markdown: { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
    worlds: { type: 'string', default: '300' },
    chains: { type: 'string', default: '40' },
  },
})
const amounts: Readonly<Record<Way, number>> = {
  cases: 0,
  oracle: Number(values.worlds),
  incremental: Number(values.chains),
}

const chosen = faults.filter(({ name, file }) => `${name} ${file}`.includes(values.only))
const clean = await rowsOf([undefined])
const rows = (await rowsOf(chosen)) as Row[]
const unnoticed = rows.filter(({ findings }) => !ways.some((way) => findings[way].isFound))
const isCleanFaulty = ways.some((way) => clean[0]!.findings[way].isFound)

console.log(values.markdown ? markdown() : plain())
if (isCleanFaulty) console.error(`the engine as it is: ${JSON.stringify(clean[0]!.findings)}`)
if (isCleanFaulty || unnoticed.length > 0) process.exitCode = 1

/** As many at a time as there are copies. */
async function rowsOf<T extends Fault | undefined>(
  all: readonly T[],
): Promise<{ fault: T; findings: Row['findings'] }[]> {
  const found: { fault: T; findings: Row['findings'] }[] = []
  const queue = [...all.entries()]
  const workers = Array.from({ length: Math.min(COPIES, all.length) }, async () => {
    const copy = await makeFaultyCopy()
    try {
      for (let next = queue.shift(); next; next = queue.shift()) {
        const [at, fault] = next
        await copy.seed(fault)
        const findings: Partial<Record<Way, Finding>> = {}
        for (const way of ways) findings[way] = await copy.find(way, amounts[way], LIMIT_MS)
        for (const way of ways) {
          if (!fault || way === 'cases' || ways.some((each) => findings[each]?.isFound)) continue
          findings[way] = await copy.find(way, amounts[way] * LONGER, LIMIT_MS * LONGER)
        }
        found[at] = { fault, findings: findings as Row['findings'] }
        if (fault) console.error(`${found.filter(Boolean).length}/${all.length} ${summary(found[at] as Row)}`)
      }
    } finally {
      await copy.remove()
    }
  })
  await Promise.all(workers)
  return found
}

function summary({ fault: { name }, findings }: Row): string {
  const by = ways.filter((way) => findings[way].isFound)
  return `${name}: ${by.length > 0 ? by.map((way) => `${way} (${cell(way, findings[way])})`).join(', ') : 'NOT CAUGHT'}`
}

/** A case by its name; otherwise after how many decisions or changes. */
function cell(way: Way, { isFound, looked, what }: Finding): string {
  if (!isFound) return '–'
  if (what === 'hangs') return what
  return way === 'cases' ? what : String(looked)
}

function plain(): string {
  const counts = ways.map((way) => `${rows.filter(({ findings }) => findings[way].isFound).length} by ${way}`)
  const missed = unnoticed.map(({ fault: { name, file } }) => `not caught: ${name} (src/${file})`)
  return [`${rows.length} faults: ${counts.join(', ')}, ${unnoticed.length} by none`, ...missed].join('\n')
}

function markdown(): string {
  const { cases, oracle, incremental } = clean[0]!.findings
  return [
    `| fault | file in \`src\` | first of ${cases.looked} cases | of ${number(oracle)} decisions, the oracle's | of ${number(incremental)} changes |`,
    '|---|---|---|---|---|',
    ...rows.map(({ fault: { name, file }, findings }) =>
      ['', name.replaceAll('|', '\\|'), `\`${file}\``, ...ways.map((way) => cell(way, findings[way])), '']
        .map((part) => part.trim())
        .join(' | ')
        .trim(),
    ),
  ].join('\n')
}

function number({ looked }: Finding): string {
  return looked.toLocaleString('en-US')
}
