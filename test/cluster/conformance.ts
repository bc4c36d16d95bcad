import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import {
  readGinkgoReport,
  readGoTests,
  renderSection,
  replaceSection,
  type SpecResult,
} from '../../scripts/conformance-results.ts'
import { CLUSTER_FOLDER, type Cluster, inLan } from './cluster.ts'
import { run } from './command.ts'
import { exitWith, withCluster } from './prepare.ts'
import { KUBERNETES_VERSION, NETWORK_POLICY_API_VERSION, type SuiteName, Unsupported } from './programs.ts'

/**
 * `npm run test:conformance`: upstream's own suites against knp on a cluster of two nodes.
 *
 *   npm run test:conformance                       both suites
 *   npm run test:conformance -- netpol             Kubernetes' end-to-end tests of NetworkPolicy: 50 specs, 14 minutes
 *   npm run test:conformance -- cnp                ClusterNetworkPolicy conformance, all features: 15 minutes
 *   npm run test:conformance -- --kube-proxy nftables
 *   npm run test:conformance -- netpol --focus 'named port'    only what matches
 *   npm run test:conformance -- --record           writes the results into docs/conformance.md
 *   npm run test:conformance -- --keep             leaves the cluster there
 *
 * Exits with 1 unless every test of the suite has run and passed.
 */

const project = fileURLToPath(new URL('../..', import.meta.url))
const document = join(project, 'docs/conformance.md')
const say = (text: string) => console.error(`test:conformance: ${text}`)

interface Suite {
  readonly title: string
  readonly version: string
  /** How many results a whole run has. */
  readonly count: number
  run(cluster: Cluster, program: string, focus: string): Promise<readonly SpecResult[]>
}

const suites: Readonly<Record<SuiteName, Suite>> = {
  netpol: {
    title: "NetworkPolicy: Kubernetes' end-to-end tests",
    version: `k8s.io/kubernetes ${KUBERNETES_VERSION}, test/e2e, focus \`Netpol\``,
    count: 50,
    async run(cluster, program, focus) {
      const report = join(CLUSTER_FOLDER, 'netpol.json')
      await runSuite([
        program,
        `--kubeconfig=${cluster.kubeconfig}`,
        '--provider=skeleton',
        `--num-nodes=${cluster.nodes}`,
        `--ginkgo.focus=Netpol.*${focus}`,
        '--ginkgo.skip=Disruptive',
        '--ginkgo.no-color',
        '--ginkgo.succinct',
        '--ginkgo.timeout=2h',
        `--ginkgo.json-report=${report}`,
      ])
      return readGinkgoReport(JSON.parse(await readFile(report, 'utf8')))
    },
  },
  cnp: {
    title: "ClusterNetworkPolicy: the API's conformance tests, all features",
    version: `sigs.k8s.io/network-policy-api ${NETWORK_POLICY_API_VERSION}, conformance`,
    count: 92,
    async run(cluster, program, focus) {
      const only = `TestConformanceProfiles/.*/${focus}`
      const args = ['-test.v', '-test.timeout=2h', '-test.run', only, '-all-features']
      return readGoTests(await runSuite([program, ...args], { KUBECONFIG: cluster.kubeconfig }))
    },
  },
}

/** Runs a suite beside the nodes, shows what it prints, and answers that. Its results tell, not its exit status. */
async function runSuite(argv: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<string> {
  const [program = '', ...args] = inLan(argv)
  const child = spawn(program, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'inherit'] })
  const closed = once(child, 'close')
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (part: string) => {
    text += part
    // Each of the thousands of specs that are not in focus has a letter there.
    process.stdout.write(part.replace(/S{2,}/g, ''))
  })
  await closed
  return text
}

/** What the suites ran on, with versions. */
async function describePlatform(cluster: Cluster): Promise<string> {
  const path = '{.items[0].status.nodeInfo}'
  const info = JSON.parse(await cluster.kubectl(['get', 'nodes', '-o', `jsonpath=${path}`]))
  const nodes = `${cluster.nodes} nodes of Kubernetes ${info.kubeletVersion} with ${info.containerRuntimeVersion}`
  return `${nodes}, kube-proxy with ${cluster.kubeProxy}, IPv4 and IPv6, Linux ${info.kernelVersion}`
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      'kube-proxy': { type: 'string', default: 'iptables' },
      focus: { type: 'string', default: '' },
      record: { type: 'boolean', default: false },
      keep: { type: 'boolean', default: false },
    },
  })
  const names = positionals.length > 0 ? positionals : Object.keys(suites)
  for (const name of names) {
    if (!isSuite(name)) throw new Unsupported(`${name}: no suite; there are ${Object.keys(suites).join(' and ')}`)
  }
  const options = { kubeProxy: values['kube-proxy'], keep: values.keep, say }
  return await withCluster(options, async (cluster) => {
    // What the image is made of; the tree may move on while the suites run.
    const commit = (await run(['git', 'describe', '--always', '--dirty', '--exclude=*'], { cwd: project })).trim()
    let status = 0
    for (const name of names.filter(isSuite)) {
      const { title, version, count, run: runOn } = suites[name]
      const results = await runOn(cluster, await cluster.programs.suite(name), values.focus)
      const bad = results.filter(({ result }) => result !== 'passed')
      for (const { name, result } of bad) console.log(`${result}: ${name}`)
      const isWhole = values.focus !== '' || results.length === count
      console.log(`${name}: ${results.length - bad.length} of ${values.focus === '' ? count : results.length} passed`)
      if (bad.length > 0 || results.length === 0 || !isWhole) status = 1
      if (values.record) {
        const section = renderSection({
          key: `${name}-${cluster.kubeProxy}`,
          title: `${title}, kube-proxy with ${cluster.kubeProxy}`,
          version,
          platform: await describePlatform(cluster),
          date: new Date().toISOString().slice(0, 10),
          commit,
          results,
        })
        const key = `${name}-${cluster.kubeProxy}`
        await writeFile(document, replaceSection(await readFile(document, 'utf8'), key, section))
      }
    }
    return status
  })
}

function isSuite(name: string): name is SuiteName {
  return name in suites
}

await exitWith('test:conformance', main)
