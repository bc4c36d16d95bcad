import { parseArgs } from 'node:util'
import { soak } from './kernel/soak.ts'

/**
 * The firewall under traffic and changes for a long time; every connection must fare as the policies of its moment say.
 * `node test/soak.ts [--seconds 600] [--seed N] [--deny-with drop|reject] [--remember long|short]
 * [--rate PER_SECOND]`; exits 1 unless all did.
 */

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '600' },
    seed: { type: 'string', default: `${Date.now() % 1_000_000_000}` },
    'deny-with': { type: 'string' },
    remember: { type: 'string' },
    rate: { type: 'string', default: '1000' },
  },
})
const seed = Number(values.seed)
const denyWith = (values['deny-with'] ?? (seed % 2 === 0 ? 'drop' : 'reject')) === 'drop' ? 'drop' : 'reject'
const remember = (values.remember ?? (seed % 4 < 2 ? 'long' : 'short')) === 'long' ? 'long' : 'short'
console.log(`seed ${seed}, denied with ${denyWith}, remembered for ${remember}`)
const result = await soak({
  seconds: Number(values.seconds),
  seed,
  denyWith,
  remember,
  rate: Number(values.rate),
  onProgress: (text) => console.log(text),
  onMistake: (text) => console.log(`WRONG ${text}`),
})
const { mistakes: _, memory, ...rest } = result
console.log(rest)
console.log(
  `memory, every 10 s: ${memory.map(({ residentMiB, heapMiB }) => `${residentMiB}/${heapMiB}`).join(' ')} (MiB, resident/heap)`,
)
const isRight =
  result.wrong === 0 && result.problems.length === 0 && result.repairs === 0 && result.counters.unanswered === 0
console.log(isRight ? 'all as the policies say' : 'FAILED')
if (!isRight) process.exitCode = 1
