import { parseArgs } from 'node:util'
import { KnpError } from '../src/errors.ts'
import { judgeCluster, runCluster } from './cluster.ts'
import { judgeDatapath, machine, runDatapath } from './datapath.ts'
import { judgeEngine, runEngine } from './engine.ts'
import { judgeNode, runNode } from './node.ts'
import { formatTable, type Judge, type Report } from './rows.ts'

const usage = `usage: npm run bench -- engine|datapath|node|cluster [--json] [--seconds S] [--repetitions R] [--queues N] [--only NAME[,NAME]] [--load NAME]...

  engine           decisions, compiling, updates and memory of the policy engine alone
  datapath         real traffic through a router with 10,000 workloads and 1,000 policies, beside no firewall, the ruleset
                   alone and a C loop that accepts all; needs root and a machine that does nothing else; 6 to 8 minutes
  node             connections of a node's pods to each other, to services and from the node, on routed interfaces and on a
                   bridge, without and with knp; needs root and a machine that does nothing else; 4 minutes
  cluster          knp run on a node of clusters of 1,000 to 100,000 pods: start, memory, CPU, how soon changes are in force,
                   beside a reader that discards what it reads; needs root and 3 GB

  --seconds S      length of each run (default 3; of each time of changes in cluster)
  --repetitions R  how often the scenarios are gone through; the result is the median (default 3; engine: 5)
  --queues N       how many queues, each with a thread (the C loop: a process) that answers (default 1); datapath only
  --only NAME[,NAME]  these scenarios and what is started with them, as in "knp warm,C loop"; datapath only
  --load NAME      this load, as in "TCP, 1 at a time"; as often as wanted; datapath only
  --pods N[,N]     how many pods the clusters have (default 1000,10000,100000); cluster only
  --real           the pods are those of a real API server, which is built with Go and started; cluster only (default 10000)
  --json           print {schema: "knp.bench/v1", rows}
`

interface Options {
  readonly seconds: number
  readonly repetitions: number
  readonly queues: number
  readonly only?: readonly string[]
  readonly loads?: readonly string[]
  readonly sizes: readonly number[]
  readonly isReal: boolean
  readonly progress: (line: string) => void
}

interface Benchmark {
  readonly run: (options: Options) => Promise<Report>
  readonly repetitions: string
  readonly judge?: Judge
}

/** Benchmarks by the name they have on the command line. */
const benchmarks: Readonly<Record<string, Benchmark>> = {
  engine: { run: runEngine, repetitions: '5', judge: judgeEngine },
  datapath: { run: runDatapath, repetitions: '3', judge: judgeDatapath },
  node: { run: runNode, repetitions: '3', judge: judgeNode },
  cluster: { run: runCluster, repetitions: '3', judge: judgeCluster },
}

function positive(name: string, text: string): number {
  const value = Number(text)
  if (!(value > 0)) throw new KnpError('USAGE', `--${name}: ${text} is no positive number`)
  return value
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      json: { type: 'boolean', default: false },
      seconds: { type: 'string', default: '3' },
      repetitions: { type: 'string' },
      queues: { type: 'string', default: '1' },
      only: { type: 'string' },
      load: { type: 'string', multiple: true },
      pods: { type: 'string' },
      real: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) {
    process.stdout.write(usage)
    return
  }
  const benchmark = benchmarks[positionals[0] ?? '']
  if (!benchmark || positionals.length > 1) {
    throw new KnpError('USAGE', `benchmark ${positionals.join(' ') || 'missing'}: one of ${Object.keys(benchmarks)}`)
  }
  const report = await benchmark.run({
    seconds: positive('seconds', values.seconds),
    repetitions: Math.ceil(positive('repetitions', values.repetitions ?? benchmark.repetitions)),
    queues: Math.ceil(positive('queues', values.queues)),
    ...(values.only !== undefined && { only: values.only.split(',') }),
    ...(values.load !== undefined && { loads: values.load }),
    isReal: values.real,
    sizes: (values.pods ?? (values.real ? '10000' : '1000,10000,100000'))
      .split(',')
      .map((text) => Math.ceil(positive('pods', text))),
    progress: (line) => process.stderr.write(`${line}\n`),
  })
  const table = () => `${machine()}\n\n${formatTable(report.rows, benchmark.judge)}`
  process.stdout.write(values.json ? `${JSON.stringify(report)}\n` : table())
}

main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : error}\n`)
  if (error instanceof KnpError && error.code === 'USAGE') process.stderr.write(usage)
  process.exitCode = error instanceof KnpError && error.code === 'USAGE' ? 2 : 1
})
