import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { access, copyFile, mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { attempt, run } from './command.ts'

/** A requirement of this machine that is not met; the message says which, and what to do. */
export class Unsupported extends Error {}

/** Where the built programs are. */
export interface Programs {
  /** Path of a program of the cluster: `kubectl`, `kubelet`, ... */
  path(name: string): string
  /** Paths of the definitions of all kinds of cluster-wide policies. */
  readonly definitions: readonly string[]
  /** Built when first asked for: some minutes. */
  suite(name: SuiteName): Promise<string>
}

export type SuiteName = 'netpol' | 'cnp'

/** The Kubernetes that is built, as it calls itself. */
export const KUBERNETES_VERSION = 'v1.36.3'
export const NETWORK_POLICY_API_VERSION = 'v0.1.8-0.20260217173220-6bb86defe1a7'

const here = fileURLToPath(new URL('.', import.meta.url))
const versionFlags = `-s -w -X k8s.io/component-base/version.gitVersion=${KUBERNETES_VERSION}`

/** Each suite is the test binary of a package of one of the modules. */
const suites = {
  netpol: { module: 'kubernetes', package: 'k8s.io/kubernetes/test/e2e' },
  cnp: { module: 'network-policy-api', package: 'sigs.k8s.io/network-policy-api/conformance' },
} as const

const definitionsModule = 'sigs.k8s.io/network-policy-api'
/** Definitions of the cluster-wide kinds of policies, in two versions of that module. */
const definitions = [
  { module: 'network-policy-api', kinds: ['clusternetworkpolicies'] },
  { module: 'admin-network-policy', kinds: ['adminnetworkpolicies', 'baselineadminnetworkpolicies'] },
] as const

/** Programs that come from the system, and the packages of Debian that have them. */
const system = [
  ['runc', 'runc'],
  ['umoci', 'umoci'],
  ['iptables', 'iptables'],
  ['nft', 'nftables'],
  ['conntrack', 'conntrack'],
  ['ip', 'iproute2'],
  ['nsenter', 'util-linux'],
  ['openssl', 'openssl'],
  ['gcc', 'build-essential'],
  ['busybox', 'busybox-static'],
  ['/usr/lib/cni/ptp', 'containernetworking-plugins'],
] as const

/**
 * Finds or builds every program of the cluster. They are kept per version of what they are built from, in
 * `~/.cache/knp-cluster`. Throws Unsupported where Go, root, or something of the system is missing.
 */
export async function findPrograms(say: (text: string) => void): Promise<Programs> {
  await requireMachine(say)
  const folder = await cacheFolder('kubernetes')
  const programs: Programs = {
    path: (name) => join(folder, name),
    definitions: definitions.flatMap(({ kinds }) => kinds.map((kind) => join(folder, `${kind}.yaml`))),
    suite: async (name) => {
      const { module, package: source } = suites[name]
      const target = join(await cacheFolder(module), `${name}.test`)
      if (existsSync(target)) return target
      await download(module)
      say(`building the suite ${name} (some minutes, once)`)
      await build(module, ['test', '-c', '-vet=off', '-ldflags', versionFlags, '-o', `${target}.part`, source])
      await rename(`${target}.part`, target)
      return target
    },
  }
  if (!existsSync(programs.path('pause'))) {
    say('building Kubernetes, containerd and etcd (about ten minutes, once)')
    await buildCluster(folder)
  }
  return programs
}

async function requireMachine(say: (text: string) => void): Promise<void> {
  const wanted = /^go (\S+)$/m.exec(await readFile(join(here, 'go/kubernetes/go.mod'), 'utf8'))?.[1] ?? ''
  const found = await goVersion()
  if (found === undefined || isOlder(found, wanted)) {
    const what = found === undefined ? 'which is not on this machine' : `and this machine has ${found}`
    throw new Unsupported(
      `needs Go ${wanted} or newer, ${what}: it builds the Kubernetes that knp is tested in (https://go.dev/dl)`,
    )
  }
  if (process.platform !== 'linux' || process.geteuid?.() !== 0) {
    throw new Unsupported('needs Linux and root: nodes are network namespaces with containers in them')
  }
  const missing: string[] = []
  for (const [program, name] of system) if (!(await isThere(program))) missing.push(name)
  if (missing.length > 0) await install(missing, say)
}

async function install(packages: readonly string[], say: (text: string) => void): Promise<void> {
  const remedy = `apt-get install ${packages.join(' ')}`
  if (!(await isThere('apt-get'))) throw new Unsupported(`needs what this machine lacks; on Debian: ${remedy}`)
  say(`installing ${packages.join(', ')}`)
  const env = { DEBIAN_FRONTEND: 'noninteractive' }
  await attempt(['apt-get', '-qq', 'update'], { env })
  const { code, stderr } = await attempt(['apt-get', '-qq', 'install', '-y', '--no-install-recommends', ...packages], {
    env,
  })
  if (code !== 0) throw new Unsupported(`needs what could not be installed: ${remedy}: ${stderr.trim()}`)
}

async function goVersion(): Promise<string | undefined> {
  try {
    // Not that of a toolchain that it would fetch for a module.
    return (await run(['go', 'env', 'GOVERSION'], { cwd: tmpdir() })).trim().replace(/^go/, '')
  } catch {
    return undefined
  }
}

function isOlder(found: string, wanted: string): boolean {
  const [a, b] = [found, wanted].map((text) => text.split('.').map((part) => Number.parseInt(part, 10)))
  const at = [0, 1, 2].find((index) => (a?.[index] ?? 0) !== (b?.[index] ?? 0))
  return at !== undefined && (a?.[at] ?? 0) < (b?.[at] ?? 0)
}

async function isThere(program: string): Promise<boolean> {
  const folders = program.startsWith('/') ? [''] : `${process.env.PATH ?? ''}:/usr/sbin:/sbin`.split(':')
  for (const folder of folders) {
    const found = await access(join(folder, program), 1).then(
      () => true,
      () => false,
    )
    if (found) return true
  }
  return false
}

/** A folder per version: go.sum pins everything that goes into a program, beside what is written here. */
async function cacheFolder(module: string): Promise<string> {
  const hash = createHash('sha256')
  const own = module === 'kubernetes' ? ['pod/pause.c', 'pod/sctp-agnhost.c'] : []
  for (const file of [join('go', module, 'go.sum'), ...own]) hash.update(await readFile(join(here, file)))
  const key = hash.digest('hex')
  const base = process.env.XDG_CACHE_HOME || join(homedir(), '.cache')
  const folder = join(base, 'knp-cluster', `${module}-${key.slice(0, 12)}`)
  await mkdir(folder, { recursive: true })
  return folder
}

/** Fetches what a module needs; what is built afterwards needs no network. */
async function download(module: string): Promise<void> {
  try {
    await build(module, ['mod', 'download'])
  } catch (error) {
    const said = error instanceof Error ? error.message.split('\n').at(-1) : String(error)
    throw new Unsupported(`needs Go modules that could not be fetched (GOPROXY says from where): ${said}`)
  }
}

async function build(module: string, args: readonly string[], env: Record<string, string> = {}): Promise<string> {
  return await run(['go', ...args], {
    cwd: join(here, 'go', module),
    timeoutMs: 3_600_000,
    // One version of network-policy-api is a commit that the checksum database does not know; go.sum holds it all the same.
    env: {
      CGO_ENABLED: '0',
      GOFLAGS: '-mod=readonly -buildvcs=false',
      GONOSUMDB: 'sigs.k8s.io/network-policy-api',
      ...env,
    },
  })
}

/** Builds aside and moves: an interrupted build leaves nothing that looks complete. */
async function buildCluster(folder: string): Promise<void> {
  for (const module of ['kubernetes', 'network-policy-api', 'admin-network-policy'] as const) await download(module)
  const aside = await mkdtemp(join(folder, '.build-'))
  try {
    const tags = 'no_btrfs no_devmapper no_zfs no_aufs'
    await build('kubernetes', ['install', '-tags', tags, '-ldflags', versionFlags, 'tool'], { GOBIN: aside })
    // The name of etcd's package is that of its module: `server`, or what a version makes of it.
    for (const name of ['server', 'v3']) {
      if (existsSync(join(aside, name))) await rename(join(aside, name), join(aside, 'etcd'))
    }
    await buildC(join(here, 'pod/sctp-agnhost.c'), join(aside, 'sctp-agnhost'))
    await buildC(join(here, 'pod/pause.c'), join(aside, 'pause'))
    for (const { module, kinds } of definitions) {
      const source = (await build(module, ['list', '-m', '-f', '{{.Dir}}', definitionsModule])).trim()
      for (const kind of kinds) {
        const definition = join(source, `config/crd/experimental/policy.networking.k8s.io_${kind}.yaml`)
        await copyFile(definition, join(aside, `${kind}.yaml`))
      }
    }
    const names = (await run(['ls', aside])).trim().split('\n')
    // `pause` is what says that all of them are there.
    for (const name of names.filter((name) => name !== 'pause').concat('pause')) {
      await rename(join(aside, name), join(folder, name))
    }
  } finally {
    await rm(aside, { recursive: true, force: true })
  }
}

async function buildC(source: string, target: string): Promise<void> {
  const { code, stderr } = await attempt([
    'gcc',
    '-std=gnu11',
    '-O2',
    '-Wall',
    '-Wextra',
    '-Werror',
    '-static',
    '-o',
    target,
    source,
  ])
  if (code !== 0) throw new Error(`${source}: ${stderr}`)
}
