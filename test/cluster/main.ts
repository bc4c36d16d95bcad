import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFile, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { openCluster, stopCluster } from './cluster.ts'
import { attempt } from './command.ts'
import { exitWith, withCluster } from './prepare.ts'
import { Unsupported } from './programs.ts'

/**
 * `npm run test:cluster`: knp as a DaemonSet on a cluster of two nodes that this starts, and takes down again.
 *
 *   npm run test:cluster                      the short selection
 *   npm run test:cluster -- --all             everything
 *   npm run test:cluster -- FILE...           test files of test/cluster
 *   npm run test:cluster -- --kube-proxy nftables
 *   npm run test:cluster -- --where-possible  ends well where the machine lacks what is needed, having named it
 *   npm run test:cluster -- --keep            leaves the cluster there, for kubectl and for the next run
 *   npm run test:cluster -- --stop            ends a cluster that was left there
 *   npm run test:cluster -- kubectl ARG...    asks it
 *
 * Exits with 1 where a test fails, or where the machine lacks what is needed, which it names.
 */

const project = fileURLToPath(new URL('../..', import.meta.url))
const short = ['daemon-set', 'manifests', 'policies', 'first-connections', 'api-server']
const full = [...short, 'definitions', 'rolling-update']
/** The longest file takes a third of it on a busy machine. */
const fileLimitMs = 900_000
const say = (text: string) => console.error(`test:cluster: ${text}`)

/**
 * Runs test files one after the other and prints what became of each test, then the totals. Answers the exit status.
 * `pods`: how many are started for their first connections.
 */
async function runTests(files: readonly string[], pods: number): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), 'knp-results-'))
  const results = join(folder, 'tap')
  try {
    let status = 0
    for (const file of files) {
      say(file)
      if ((await runTest(file, pods, results)) !== 0) status = 1
    }
    const { code, stdout } = await attempt([process.execPath, 'scripts/count-results.ts', results], { cwd: project })
    process.stdout.write(stdout)
    return status || (code ?? 1)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** Runs one file, appends what it says to `results`, and answers its exit status. One that does not end is ended. */
async function runTest(file: string, pods: number, results: string): Promise<number> {
  const env = { KNP_FIRST_PODS: String(pods), ...process.env, TAP_TIMEOUT: String(fileLimitMs / 1000) }
  const child = spawn(process.execPath, ['--no-warnings', file], {
    cwd: project,
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
    // After the test's own end of it, which says what it waited for.
    timeout: fileLimitMs + 10_000,
    killSignal: 'SIGKILL',
  })
  const closed = once(child, 'close')
  for await (const line of createInterface({ input: child.stdout })) {
    await appendFile(results, `${line}\n`)
    // Tests, and the figures that they tell.
    if (/^((not )?ok | {4}# (?!Subtest))/.test(line)) console.log(line)
  }
  const [code] = await closed
  return code ?? 1
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      all: { type: 'boolean', default: false },
      keep: { type: 'boolean', default: false },
      'where-possible': { type: 'boolean', default: false },
      stop: { type: 'boolean', default: false },
      'kube-proxy': { type: 'string', default: 'iptables' },
    },
  })
  if (values.stop) {
    await stopCluster()
    return 0
  }
  const named = (values.all ? full : short).map((name) => `test/cluster/${name}.test.ts`)
  const options = { kubeProxy: values['kube-proxy'], keep: values.keep, say }
  try {
    return await withCluster(options, () =>
      runTests(positionals.length > 0 ? positionals : named, values.all ? 100 : 20),
    )
  } catch (error) {
    if (!values['where-possible'] || !(error instanceof Unsupported)) throw error
    console.log(`test:cluster is left out: it ${error.message}`)
    return 0
  }
}

/** kubectl's own arguments are not ours to read. */
async function kubectl(args: readonly string[]): Promise<number> {
  const { code, stdout, stderr } = await (await openCluster()).attemptKubectl(args)
  process.stdout.write(stdout)
  process.stderr.write(stderr)
  return code ?? 1
}

await exitWith('test:cluster', () => (process.argv[2] === 'kubectl' ? kubectl(process.argv.slice(3)) : main()))
