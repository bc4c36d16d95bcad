import { hostname } from 'node:os'
import { dirname, isAbsolute, resolve } from 'node:path'
import { type ConfigFile, invalidConfig, isThere, listProblems, readConfigFile } from './config-file.ts'
import type { UnknownLocal } from './datapath/judge.ts'
import { DEFAULT_CONNECTION_MASK, DEFAULT_PACKET_MASK, layoutMarks, type MarkLayout } from './datapath/marks.ts'
import { durationMs } from './duration.ts'
import { formatBlock, parseBlock } from './engine/address.ts'
import { InvalidObject, isSubdomain, type ObjectPath, ObjectReader } from './engine/object-reader.ts'
import { tierNames } from './engine/pipeline.ts'
import { KnpError } from './errors.ts'
import type { EvaluatorModule } from './evaluators.ts'
import { formatListenAddress, parseListenAddress } from './listen-address.ts'
import { type LogConfig, logFormats, loggedFlows, logLevels } from './log-config.ts'
import { type Mode, modes } from './mode.ts'
import type { UnknownPodOptions } from './pod-addresses.ts'
import type { QueueRange } from './queue-range.ts'
import { defaultFailsafe, type Failsafe, kubeletFailsafe } from './ruleset/failsafe.ts'
import type { DenyWith, OnFailure, Remember } from './ruleset/text.ts'
import { chooseSources, type SourceFlags } from './source-flags.ts'
import type { ClusterChoice } from './sources/kubernetes/access.ts'
import type { SourceChoice } from './sources/open.ts'

/** Where `knp run` looks for its configuration when no other file is named. */
export const CONFIG_FILE = '/etc/knp/knp.yaml'

/** What the kernel answers by itself once it has been decided. */
export interface RememberConfig extends Remember {
  /** Whether the kernel tells of each connection that it answers so. */
  readonly isLogged: boolean
}

/** The effective configuration of `knp run`: flags over file over defaults. Deeply frozen; docs/configuration.md. */
export interface Config {
  /** One or more, merged; paths are absolute. */
  readonly sources: readonly SourceChoice[]
  /** Which node of the picture this machine is. */
  readonly nodeName: string
  /** Whether decisions are enforced. */
  readonly mode: Mode
  /** Packets that get no verdict; under audit they pass, whatever this says. */
  readonly onFailure: OnFailure
  /** Packets that policies deny. */
  readonly denyWith: DenyWith
  /** Traffic of a pod that runs here and that no source has come to know within `holdMs`. */
  readonly unknownLocal: UnknownLocal
  readonly holdMs: number
  /** In which pods of this machine get their addresses, beside what its Node object says: CIDR blocks, host bits cleared. */
  readonly podCIDRs: readonly string[]
  /**
   * `first`: number of the first netfilter queue; `count`: how many there are, each with a packet thread; `maxLength`: how
   * many packets may wait in each.
   */
  readonly queue: QueueRange & { readonly maxLength: number }
  /** What the kernel answers by itself once it has been decided. */
  readonly remember: RememberConfig
  /** Masks, as unsigned 32-bit numbers; `marksOf` lays them out. */
  readonly marks: { readonly packet: number; readonly conntrack: number }
  /** `address`: where /metrics, /healthz and /readyz are served, as `parseListenAddress` reads it, or `none`. */
  readonly metrics: { readonly address: string }
  /** `socket`: absolute path; `group`: name of the group that may connect, none but root's own where absent. */
  readonly control: { readonly socket: string; readonly group?: string }
  /** Absolute path of the folder for what outlives a restart. */
  readonly stateDir: string
  /** What always passes on host endpoints; an empty list means nothing does. */
  readonly failsafe: {
    readonly inbound: readonly InboundFailsafe[]
    readonly outbound: readonly OutboundFailsafe[]
    /** The API servers of the sources too, outbound, whatever their addresses are at the moment. */
    readonly apiServer: boolean
  }
  /** `level`: what is told of the firewall itself; `flows`: which decisions are told with it. */
  readonly log: LogConfig
  /** Evaluators of third parties; at one place of the pipeline they keep this order. */
  readonly evaluators: readonly EvaluatorModule[]
}

export interface FailsafePort {
  readonly protocol: FailsafeProtocol
  /** 1 to 65535. */
  readonly port: number
}

/** `from`: blocks in CIDR notation, host bits cleared; everywhere where absent, never empty. */
export interface InboundFailsafe extends FailsafePort {
  readonly from?: readonly string[]
}

/** `to`: as `from` of the other direction. */
export interface OutboundFailsafe extends FailsafePort {
  readonly to?: readonly string[]
}

export type FailsafeProtocol = (typeof protocols)[number]
const protocols = ['tcp', 'udp', 'sctp'] as const
const MAX_QUEUE = 65535
/** Each has a thread; more than processors are of no use. */
const MAX_QUEUES = 64
/** Of each of the four sets; an element takes the kernel about 150 bytes. */
const MAX_REMEMBERED = 1 << 24
/** Who has waited so long has tried again. */
const MAX_HOLD_MS = 10_000

/**
 * What holds where neither flag nor file says anything; `nodeName` is the host name then, and sources there are none. With
 * an API server as source `onFailure` is `open`: a cluster's node is of no use without its network.
 */
export const configDefaults: Omit<Config, 'sources' | 'nodeName'> = {
  mode: 'enforce',
  onFailure: 'closed',
  denyWith: 'drop',
  unknownLocal: 'deny',
  holdMs: 500,
  podCIDRs: [],
  queue: { first: 100, count: 1, maxLength: 8192 },
  remember: { allowedMs: 30_000, deniedMs: 5000, size: 65_536, isLogged: true },
  marks: { packet: DEFAULT_PACKET_MASK, conntrack: DEFAULT_CONNECTION_MASK },
  metrics: { address: '127.0.0.1:9080' },
  control: { socket: '/run/knp/control.sock' },
  stateDir: '/var/lib/knp',
  failsafe: {
    inbound: defaultFailsafe.inbound.map(({ protocol, port }) => ({ protocol, port })),
    outbound: defaultFailsafe.outbound.map(({ protocol, port }) => ({ protocol, port })),
    apiServer: false,
  },
  log: { level: 'info', flows: 'denied', format: 'auto' },
  evaluators: [],
}

const kubeletPort: InboundFailsafe = { protocol: kubeletFailsafe.protocol, port: kubeletFailsafe.port }

/** The host name as Kubernetes names nodes. */
export function defaultNodeName(): string {
  return hostname().toLowerCase()
}

/** What the command line says, by the names of its flags; what is absent is the file's to say. */
export interface ConfigFlags extends SourceFlags {
  /** Path of the file. It must be there; the usual one need not. */
  readonly config?: string | undefined
  readonly 'node-name'?: string | undefined
  readonly mode?: string | undefined
  readonly 'on-failure'?: string | undefined
  readonly 'deny-with'?: string | undefined
  readonly 'unknown-local'?: string | undefined
  readonly hold?: string | undefined
  readonly 'pod-cidr'?: readonly string[] | undefined
  readonly 'queue-first'?: number | undefined
  readonly 'queue-count'?: number | undefined
  readonly 'queue-max-length'?: number | undefined
  readonly 'remember-allowed'?: string | undefined
  readonly 'remember-denied'?: string | undefined
  readonly 'remember-size'?: number | undefined
  readonly 'remember-log'?: boolean | undefined
  readonly 'marks-packet'?: string | undefined
  readonly 'marks-conntrack'?: string | undefined
  /** `127.0.0.1:9080`, `[::1]:9080`, or `none`. */
  readonly 'metrics-address'?: string | undefined
  readonly 'control-socket'?: string | undefined
  readonly 'control-group'?: string | undefined
  readonly 'state-dir'?: string | undefined
  readonly 'log-level'?: string | undefined
  readonly 'log-flows'?: string | undefined
  readonly 'log-format'?: string | undefined
  /** `tcp/22`, `tcp/22@10.0.0.0/8`, or `none`. */
  readonly 'failsafe-inbound'?: readonly string[] | undefined
  readonly 'failsafe-outbound'?: readonly string[] | undefined
  readonly 'failsafe-api-server'?: boolean | undefined
  /** `quarantine.js`, `quarantine.js@before:Admin`, `quarantine.js@after:Baseline`. */
  readonly evaluator?: readonly string[] | undefined
}

/**
 * Reads the configuration and leaves the working directory for `/`; paths of flags are relative to what it was, those of
 * the file are absolute. Sources may be none: `requireSources` where they are needed.
 *
 * Throws KnpError USAGE with all problems of the flags, else INVALID_CONFIG with all problems of the file.
 */
export async function loadConfig(flags: ConfigFlags, file = CONFIG_FILE): Promise<Config> {
  const fromFlags = flagLayer(flags)
  const fromFile = await fileLayer(flags.config, file)
  process.chdir('/')
  const settings = new Settings(fromFlags, fromFile)
  const config = readSettings(settings)
  if (fromFlags.problems.length > 0) throw usage(fromFlags.describeProblems())
  if (fromFile.problems.length > 0) throw invalidConfig(fromFile.describeProblems())
  return deepFreeze(config)
}

/** Throws KnpError USAGE where no source of policies is configured. */
export function requireSources(config: Config): void {
  if (config.sources.length > 0) return
  throw new KnpError('USAGE', 'no source of policies is configured', {
    hint: `name a file or folder with --source PATH, a cluster with --source kubernetes, or either under \`sources\` in ${CONFIG_FILE}`,
  })
}

/**
 * Where the running firewall answers: the flag's path, else the file's. Problems of other keys are no hindrance: a
 * firewall that runs can be asked while its file is being edited. Throws KnpError USAGE, INVALID_CONFIG.
 */
export async function findControlSocket(
  flags: Pick<ConfigFlags, 'config' | 'control-socket'>,
  file = CONFIG_FILE,
): Promise<string> {
  const path = ['control', 'socket']
  const fromFlags = flagLayer(flags)
  const named = fromFlags.read(path, socketPath)
  if (fromFlags.problems.length > 0) throw usage(fromFlags.describeProblems())
  if (named !== undefined) return named
  const fromFile = await fileLayer(flags.config, file)
  const socket = fromFile.read(path, socketPath)
  if (fromFile.problems.length > 0) throw invalidConfig(fromFile.describeProblems())
  return socket ?? configDefaults.control.socket
}

/**
 * The evaluators for commands that ask policies without a running firewall: the flags', else those of the file that is
 * named; the usual file is not looked for. Keeps the working directory. Throws KnpError USAGE, INVALID_CONFIG.
 */
export async function findEvaluators(
  flags: Pick<ConfigFlags, 'config' | 'evaluator'>,
): Promise<readonly EvaluatorModule[]> {
  const directory = process.cwd()
  const fromFlags = flagLayer(flags)
  const named = fromFlags.read(['evaluators'], evaluatorList)
  if (fromFlags.problems.length > 0) throw usage(fromFlags.describeProblems())
  if (named !== undefined || flags.config === undefined) return named ?? []
  try {
    const fromFile = await fileLayer(flags.config, CONFIG_FILE)
    const found = fromFile.read(['evaluators'], evaluatorList)
    if (fromFile.problems.length > 0) throw invalidConfig(fromFile.describeProblems())
    return found ?? []
  } finally {
    process.chdir(directory)
  }
}

/** The layout of the marks; a Config has masks that have one. */
export function marksOf({ marks }: Pick<Config, 'marks'>): MarkLayout {
  return layoutMarks(marks.packet, marks.conntrack)!
}

/** The failsafe as the ruleset takes it. */
export function failsafeOf({ failsafe }: Pick<Config, 'failsafe'>): Failsafe {
  const rule = ({ protocol, port, from, to }: InboundFailsafe & OutboundFailsafe) => {
    return { protocol, port, peers: (from ?? to ?? []).map((block) => parseBlock(block)!) }
  }
  return { inbound: failsafe.inbound.map(rule), outbound: failsafe.outbound.map(rule) }
}

/** What is done about pods here that no source knows, as the firewall takes it. */
export function unknownPodsOf({
  unknownLocal,
  holdMs,
  podCIDRs,
}: Pick<Config, 'unknownLocal' | 'holdMs' | 'podCIDRs'>): UnknownPodOptions {
  return { unknownLocal, holdMs, podBlocks: podCIDRs.map((block) => parseBlock(block)!) }
}

/** A mask as people write it. */
export function formatMask(mask: number): string {
  return `0x${(mask >>> 0).toString(16).padStart(8, '0')}`
}

/** `tcp/22@10.0.0.0/8`, as the flags take it: one for each block. */
export function formatFailsafe(rule: InboundFailsafe & OutboundFailsafe): string[] {
  const port = `${rule.protocol}/${rule.port}`
  return (rule.from ?? rule.to)?.map((block) => `${port}@${block}`) ?? [port]
}

function readSettings(settings: Settings): Config {
  const { queue, remember, marks, control, failsafe, log } = configDefaults
  settings.refuseUnknown()
  const group = settings.of(['control', 'group'], name, undefined)
  const sources = settings.of(['sources'], sourceList, [])
  const hasCluster = sources.some((source) => 'kubernetes' in source)
  const usualOnFailure = hasCluster ? 'open' : configDefaults.onFailure
  const usualInbound = hasCluster ? [...failsafe.inbound, kubeletPort] : failsafe.inbound
  const outbound = settings.of(
    ['failsafe', 'outbound'],
    (reader, layer) => failsafeList(reader, layer, 'to'),
    undefined,
  )
  return {
    sources,
    nodeName: settings.of(['nodeName'], nodeName, defaultNodeName()),
    mode: settings.of(['mode'], (reader) => reader.oneOf(modes), configDefaults.mode),
    onFailure: settings.of(['onFailure'], (reader) => reader.oneOf(['open', 'closed']), usualOnFailure),
    denyWith: settings.of(['denyWith'], (reader) => reader.oneOf(['drop', 'reject']), configDefaults.denyWith),
    unknownLocal: settings.of(
      ['unknownLocal'],
      (reader) => reader.oneOf(['deny', 'allow']),
      configDefaults.unknownLocal,
    ),
    holdMs: settings.of(['hold'], holdTime, configDefaults.holdMs),
    podCIDRs: settings.of(['podCIDRs'], blockList, configDefaults.podCIDRs),
    queue: {
      ...queueRange(settings),
      maxLength: settings.of(['queue', 'maxLength'], (reader) => reader.integer(1, 1 << 20), queue.maxLength),
    },
    remember: {
      allowedMs: settings.of(['remember', 'allowed'], duration, remember.allowedMs),
      deniedMs: settings.of(['remember', 'denied'], duration, remember.deniedMs),
      size: settings.of(['remember', 'size'], (reader) => reader.integer(1, MAX_REMEMBERED), remember.size),
      isLogged: settings.of(['remember', 'log'], yesOrNo, remember.isLogged),
    },
    marks: {
      packet: settings.of(['marks', 'packet'], packetMask, marks.packet),
      conntrack: settings.of(['marks', 'conntrack'], connectionMask, marks.conntrack),
    },
    metrics: { address: settings.of(['metrics', 'address'], metricsAddress, configDefaults.metrics.address) },
    control: {
      socket: settings.of(['control', 'socket'], socketPath, control.socket),
      ...(group !== undefined && { group }),
    },
    stateDir: settings.of(['stateDir'], absolutePath, configDefaults.stateDir),
    failsafe: {
      inbound: settings.of(
        ['failsafe', 'inbound'],
        (reader, layer) => failsafeList(reader, layer, 'from'),
        usualInbound,
      ),
      outbound: outbound ?? failsafe.outbound,
      // A list that is set is all there is.
      apiServer: settings.of(['failsafe', 'apiServer'], yesOrNo, hasCluster && outbound === undefined),
    },
    log: {
      level: settings.of(['log', 'level'], (reader) => reader.oneOf(logLevels), log.level),
      flows: settings.of(['log', 'flows'], (reader) => reader.oneOf(loggedFlows), log.flows),
      format: settings.of(['log', 'format'], (reader) => reader.oneOf(logFormats), log.format),
    },
    evaluators: settings.of(['evaluators'], evaluatorList, configDefaults.evaluators),
  }
}

function yesOrNo(reader: ObjectReader): boolean {
  return reader.optionalBoolean() ?? false
}

/** `30s`; `0s` is allowed. */
function duration(reader: ObjectReader): number {
  const text = reader.string()
  return durationMs(text) ?? reader.fail(`"${text}" is no time; write for example 500ms, 30s, 5m, or 0s for none`)
}

function holdTime(reader: ObjectReader): number {
  const ms = duration(reader)
  if (ms > MAX_HOLD_MS) reader.fail(`"${reader.string()}" is above ${MAX_HOLD_MS / 1000}s`)
  return ms
}

function queueRange(settings: Settings): QueueRange {
  const { queue } = configDefaults
  const path = ['queue', 'count']
  const first = settings.of(['queue', 'first'], (reader) => reader.integer(0, MAX_QUEUE), queue.first)
  const count = settings.of(path, (reader) => reader.integer(1, MAX_QUEUES), queue.count)
  if (first + count - 1 > MAX_QUEUE)
    settings.refuse(path, `${count} queues from ${first} on are too many: the last number there is is ${MAX_QUEUE}`)
  return { first, count }
}

/** A value of a layer; problems that leave the rest readable go to the layer. */
type Read<T> = (reader: ObjectReader, layer: Layer) => T

/** What one origin says, read piece by piece, and everything that is wrong with it. */
class Layer {
  readonly root: ObjectReader
  readonly problems: InvalidObject[] = []
  /** What relative paths are relative to, where they are taken. */
  readonly directory: string
  readonly #placeOf: (path: ObjectPath) => string

  constructor(value: unknown, directory: string, placeOf: (path: ObjectPath) => string) {
    this.root = new ObjectReader(value)
    this.directory = directory
    this.#placeOf = placeOf
  }

  /** `undefined` where the layer does not say, or not in a way that can be understood. */
  read<T>(path: readonly string[], read: Read<T>): T | undefined {
    return this.attempt(() => {
      let reader = this.root
      for (const name of path) reader = reader.fields()(name)
      return reader.isPresent ? read(reader, this) : undefined
    })
  }

  /** Notes the problem that the function throws; then the answer is `undefined`. */
  attempt<T>(read: () => T): T | undefined {
    try {
      return read()
    } catch (error) {
      if (!(error instanceof InvalidObject)) throw error
      this.problems.push(error)
      return undefined
    }
  }

  /** One text for each problem. */
  describeProblems(): string[] {
    return this.problems.map(({ path, message, problem }) => {
      const place = this.#placeOf(path)
      return `${place}: ${place.startsWith('--') ? problem : message}`
    })
  }
}

/** Flags over file over default. Both layers are read, so that what a flag hides is checked all the same. */
class Settings {
  readonly #flags: Layer
  readonly #file: Layer

  constructor(flags: Layer, file: Layer) {
    this.#flags = flags
    this.#file = file
  }

  of<T>(path: readonly string[], read: Read<T>, fallback: T): T {
    const fromFlags = this.#flags.read(path, read)
    const fromFile = this.#file.read(path, read)
    return fromFlags ?? fromFile ?? fallback
  }

  /** Notes what is wrong with a value that is in force, at the place that it comes from. */
  refuse(path: readonly string[], problem: string): void {
    const layer = this.#flags.read(path, () => true) ? this.#flags : this.#file
    layer.read(path, (reader) => reader.fail(problem))
  }

  refuseUnknown(): void {
    refuseUnknown(this.#file, this.#file.root, knownKeys)
  }
}

interface KeyTree {
  readonly [name: string]: KeyTree | null
}

/** Every key. */
const knownKeys: KeyTree = {
  sources: null,
  nodeName: null,
  mode: null,
  onFailure: null,
  denyWith: null,
  unknownLocal: null,
  hold: null,
  podCIDRs: null,
  queue: { first: null, count: null, maxLength: null },
  remember: { allowed: null, denied: null, size: null, log: null },
  marks: { packet: null, conntrack: null },
  metrics: { address: null },
  control: { socket: null, group: null },
  stateDir: null,
  failsafe: { inbound: null, outbound: null, apiServer: null },
  evaluators: null,
  log: { level: null, flows: null, format: null },
}

function refuseUnknown(layer: Layer, reader: ObjectReader, known: KeyTree): void {
  layer.attempt(() => {
    const field = reader.fields()
    for (const name of Object.keys((reader.value as object | undefined) ?? {})) {
      layer.attempt(() => {
        if (!Object.hasOwn(known, name)) field(name).fail(`unknown key; known here: ${Object.keys(known).join(', ')}`)
        const below = known[name]
        if (below) refuseUnknown(layer, field(name), below)
      })
    }
  })
}

function sourceList(reader: ObjectReader, layer: Layer): SourceChoice[] {
  return reader.items().flatMap((item) => layer.attempt(() => source(item)) ?? [])
}

function source(item: ObjectReader): SourceChoice {
  const field = item.fields(['files', 'kubernetes'])
  // `- kubernetes:` needs no more: the usual cluster.
  const isCluster =
    field('kubernetes').isPresent || Object.hasOwn((item.value as object | undefined) ?? {}, 'kubernetes')
  if (isCluster && field('files').isPresent) item.fail('files and kubernetes: name one of them')
  if (isCluster) return { kubernetes: cluster(field('kubernetes')) }
  if (!field('files').isPresent) item.fail('files is missing, or kubernetes')
  return { files: { path: absolutePath(field('files').fields(['path'])('path')) } }
}

function cluster(reader: ObjectReader): ClusterChoice {
  const field = reader.fields(['kubeconfig', 'context'])
  return {
    ...(field('kubeconfig').isPresent && { kubeconfig: absolutePath(field('kubeconfig')) }),
    ...(field('context').isPresent && { context: name(field('context')) }),
  }
}

function evaluatorList(reader: ObjectReader, layer: Layer): EvaluatorModule[] {
  return reader.items().flatMap((item) => layer.attempt(() => evaluatorModule(item, layer)) ?? [])
}

function evaluatorModule(item: ObjectReader, { directory }: Layer): EvaluatorModule {
  const field = item.fields(['module', 'before', 'after'])
  if (!field('module').isPresent) item.fail('module is missing')
  const path = name(field('module'))
  if (path.includes('\0')) field('module').fail(`"${path}" is no path`)
  const module = resolve(directory, path)
  if (field('before').isPresent && field('after').isPresent) item.fail('before and after: name one of them')
  if (field('before').isPresent) return { module, before: field('before').oneOf(tierNames) }
  if (field('after').isPresent) return { module, after: field('after').oneOf(tierNames) }
  return { module }
}

/** Inbound or outbound rules, by the name of their peers. */
function failsafeList(
  reader: ObjectReader,
  layer: Layer,
  peers: 'from' | 'to',
): (InboundFailsafe & OutboundFailsafe)[] {
  return reader.items().flatMap((item) => {
    const rule = layer.attempt(() => {
      const field = item.fields(['protocol', 'port', peers])
      return {
        protocol: layer.attempt(() => field('protocol').oneOf(protocols)),
        port: layer.attempt(() => field('port').integer(1, 65535)),
        ...(field(peers).isPresent && { [peers]: blocks(field(peers), layer) }),
      }
    })
    return rule?.protocol && rule.port ? [{ ...rule, protocol: rule.protocol, port: rule.port }] : []
  })
}

function blocks(reader: ObjectReader, layer: Layer): string[] {
  if (reader.items().length === 0) reader.fail('an empty list: leave it out to mean everywhere')
  return blockList(reader, layer)
}

function blockList(reader: ObjectReader, layer: Layer): string[] {
  return reader.items().flatMap(
    (item) =>
      layer.attempt(() => {
        const block = parseBlock(item.string())
        return block ? formatBlock(block) : item.fail(`"${item.string()}" is no CIDR block`)
      }) ?? [],
  )
}

function name(reader: ObjectReader): string {
  return reader.string() === '' ? reader.fail('empty') : reader.string()
}

function nodeName(reader: ObjectReader): string {
  const text = name(reader)
  // Nodes of no source have such a name: nothing would be protected, as if this were no node.
  return isSubdomain(text) ? text : reader.fail(`"${text}" is no valid node name`)
}

function absolutePath(reader: ObjectReader): string {
  const text = name(reader)
  if (!isAbsolute(text) || text.includes('\0')) reader.fail(`"${text}" is no absolute path`)
  return resolve(text)
}

function metricsAddress(reader: ObjectReader): string {
  const text = reader.string()
  if (text === 'none') return text
  const endpoint = parseListenAddress(text)
  if (!endpoint) reader.fail(`"${text}" is no address and port such as 127.0.0.1:9080 or [::1]:9080, and not none`)
  return formatListenAddress(endpoint)
}

/** What fits into sun_path (unix(7)), its ending zero aside. */
const MAX_SOCKET_PATH_BYTES = 107

function socketPath(reader: ObjectReader): string {
  const path = absolutePath(reader)
  const length = Buffer.byteLength(path)
  if (length > MAX_SOCKET_PATH_BYTES) reader.fail(`a path of ${length} bytes, ${MAX_SOCKET_PATH_BYTES} fit`)
  return path
}

function packetMask(reader: ObjectReader): number {
  const mask = unsigned32(reader)
  if (!layoutMarks(mask, DEFAULT_CONNECTION_MASK))
    reader.fail(`${formatMask(mask)} is not enough: 7 adjoining bits are needed`)
  return mask
}

function connectionMask(reader: ObjectReader): number {
  const mask = unsigned32(reader)
  if (!layoutMarks(DEFAULT_PACKET_MASK, mask))
    reader.fail(`${formatMask(mask)} is not enough: 4 adjoining bits are needed`)
  return mask
}

/** A number, or the text of one as flags and JSON have it. */
function unsigned32(reader: ObjectReader): number {
  if (typeof reader.value !== 'string') return reader.integer(0, 0xffffffff)
  if (!/^(0x[0-9a-f]{1,8}|\d{1,10})$/i.test(reader.value))
    reader.fail(`"${reader.value}" is no mask such as 0x7f000000`)
  return new ObjectReader(Number(reader.value), reader.path).integer(0, 0xffffffff)
}

function flagLayer(flags: ConfigFlags): Layer {
  const directory = process.cwd()
  return new Layer(flagValues(flags, directory), directory, (path) => `--${flagOf(path)}`)
}

async function fileLayer(named: string | undefined, usual: string): Promise<Layer> {
  if (named === '') throw usage(['--config: empty'])
  const path = named === undefined ? usual : resolve(named)
  const isGiven = named !== undefined || (await isThere(path))
  const { value, placeOf }: ConfigFile = isGiven
    ? await readConfigFile(path)
    : { value: undefined, placeOf: () => path }
  return new Layer(value, dirname(path), placeOf)
}

/** The flags in the file's form. What cannot be brought into it is left as it is, for the reader to refuse. */
function flagValues(flags: ConfigFlags, directory: string): object {
  const absolute = (path: string | undefined) => (path ? resolve(directory, path) : path)
  return {
    sources:
      (flags.source ?? flags.kubeconfig ?? flags.context) !== undefined
        ? chooseSources(flags).map((source) =>
            'files' in source ? { files: { path: absolute(source.files.path) } } : source,
          )
        : undefined,
    nodeName: flags['node-name'],
    mode: flags.mode,
    onFailure: flags['on-failure'],
    denyWith: flags['deny-with'],
    unknownLocal: flags['unknown-local'],
    hold: flags.hold,
    podCIDRs: flags['pod-cidr'],
    queue: { first: flags['queue-first'], count: flags['queue-count'], maxLength: flags['queue-max-length'] },
    remember: {
      allowed: flags['remember-allowed'],
      denied: flags['remember-denied'],
      size: flags['remember-size'],
      log: flags['remember-log'],
    },
    marks: { packet: flags['marks-packet'], conntrack: flags['marks-conntrack'] },
    metrics: { address: flags['metrics-address'] },
    control: { socket: absolute(flags['control-socket']), group: flags['control-group'] },
    stateDir: absolute(flags['state-dir']),
    failsafe: {
      inbound: failsafeValues(flags['failsafe-inbound'], 'failsafe-inbound', 'from'),
      outbound: failsafeValues(flags['failsafe-outbound'], 'failsafe-outbound', 'to'),
      apiServer: flags['failsafe-api-server'],
    },
    log: { level: flags['log-level'], flows: flags['log-flows'], format: flags['log-format'] },
    evaluators: flags.evaluator?.map(evaluatorValue),
  }
}

/** A path may have an `@` of its own: only what a place can be is one. */
function evaluatorValue(text: string): object {
  const [, module = text, side, tier] = /^(.*)@(before|after):([^/]*)$/.exec(text) ?? []
  return { module, ...(side !== undefined && { [side]: tier }) }
}

function failsafeValues(texts: readonly string[] | undefined, flag: string, peers: 'from' | 'to') {
  if (texts?.length === 1 && texts[0] === 'none') return []
  return texts?.map((text) => {
    const [, protocol, port, block] = /^([^/@]+)\/(\d{1,5})(?:@(.+))?$/.exec(text) ?? []
    if (text === 'none') throw usage([`--${flag}: none stands alone`])
    if (!protocol) throw usage([`--${flag}: "${text}" is not of the form tcp/22, tcp/22@10.0.0.0/8 or none`])
    return { protocol, port: Number(port), ...(block !== undefined && { [peers]: [block] }) }
  })
}

/** The flag that a value came from. */
function flagOf(path: ObjectPath): string {
  const [first, second] = path
  if (first === 'sources') return 'source'
  if (first === 'evaluators') return 'evaluator'
  if (first === 'podCIDRs') return 'pod-cidr'
  const words = typeof second === 'string' ? [first, second] : [first]
  return words.map((word) => String(word).replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)).join('-')
}

function usage(problems: readonly string[]): KnpError {
  return new KnpError('USAGE', listProblems(problems), { hint: 'see --help' })
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) for (const part of Object.values(value)) deepFreeze(part)
  return Object.freeze(value)
}
