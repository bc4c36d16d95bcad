import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { Flags } from '@oclif/core'
import { KnpCommand } from '../command.ts'
import { failsafeOf, loadConfig, marksOf, requireSources, unknownPodsOf } from '../config.ts'
import { Monitoring } from '../control/monitoring.ts'
import { type ControlMethods, ControlServer, type ControlStreams, findGroup } from '../control/socket.ts'
import { HeldOutput } from '../dashboard/held-output.ts'
import { DashboardProcess } from '../dashboard/process.ts'
import { deciderTotals } from '../decider-totals.ts'
import { requireHost } from '../doctor.ts'
import { KnpError } from '../errors.ts'
import { loadPipeline } from '../evaluators.ts'
import { Firewall, type FirewallEvent } from '../firewall.ts'
import { logFlows } from '../flows/flow-log.ts'
import { type FlowsParams, streamFlows } from '../flows/stream.ts'
import type { KeptConnection } from '../kept-connection.ts'
import { KeptQueues } from '../kept-queues.ts'
import { configJson, formatConfig } from '../output/config.ts'
import { enforcingLine, protectionWarning, statusJson } from '../output/status.ts'
import { type QuestionText, readQuestion, withQuestionErrors } from '../question.ts'
import { queueNumbers } from '../queue-range.ts'
import type { OnFailure } from '../ruleset/text.ts'
import { runFlags } from '../run-flags.ts'
import { openRunLog, type RunLog } from '../run-log.ts'
import { openSource } from '../sources/open.ts'
import type { SourceHealth } from '../sources/source.ts'
import { ServiceManager } from '../systemd.ts'
import { startWatchdog } from '../watchdog.ts'

export default class Run extends KnpCommand {
  static override summary = 'The firewall, in the foreground'
  static override description =
    'Decides the connections of every workload that a policy selects, until SIGTERM or SIGINT. Files and ' +
    'clusters are watched: a change is in force within a second; what cannot be read leaves the last good policies in force. ' +
    'Every flag but --config and --print-config is a key of the configuration file too; the flag wins. ' +
    '\n\nExit status: 0 stopped as asked, 2 invalid input, 5 this machine cannot enforce, 70 internal error.'
  static override examples = [
    '<%= config.bin %> run',
    '<%= config.bin %> run --source /etc/knp/policies',
    '<%= config.bin %> run --source kubernetes --kubeconfig /etc/knp/kubeconfig',
    '<%= config.bin %> run --source policies/ --on-failure open --queue-first 200',
    '<%= config.bin %> run --source policies/ --dashboard',
  ]
  static override flags = {
    ...runFlags,
    dashboard: Flags.boolean({
      description: 'show `knp dashboard` on this terminal; the firewall ends with it',
      exclusive: ['json', 'print-config'],
    }),
    'print-config': Flags.boolean({ description: 'print the configuration that would be in force, and end' }),
  }

  async run(): Promise<void> {
    const manager = ServiceManager.fromEnvironment()
    const queues = new KeptQueues(manager)
    try {
      await this.enforce(manager, queues)
    } catch (error) {
      // A start that fails may fail again and again: until one succeeds nobody answers what waits.
      if (!queues.isHeld) this.tell(() => queues.release())
      throw error
    } finally {
      await this.monitoring?.close()
      this.runLog?.close()
    }
  }

  private monitoring: Monitoring | undefined

  private async enforce(manager: ServiceManager, queues: KeptQueues): Promise<void> {
    const { flags } = await this.parse(Run)
    const config = await loadConfig(flags)
    requireSources(config)
    if (flags.dashboard && !(process.stdin.isTTY && process.stdout.isTTY)) {
      throw new KnpError('USAGE', '--dashboard: this is no terminal', {
        hint: 'run `knp dashboard` on one, beside the firewall',
      })
    }
    if (flags['print-config']) await this.finish(configJson(config), formatConfig(config))
    // The room for what is new grows with a cluster's first list, by 100 MB, and is never given back.
    if (config.sources.some((source) => 'kubernetes' in source)) setFlagsFromString('--semi-space-growth-factor=1')
    const { nodeName, mode, onFailure, denyWith, queue, remember, control: endpoint } = config
    const stopAsked = new Promise<void>((resolve) => {
      process.once('SIGTERM', resolve)
      process.once('SIGINT', resolve)
    })
    // A terminal that closes must not end the firewall; what reload means today happens by itself.
    process.on('SIGHUP', () => {})
    this.runLog = await openRunLog({ ...config.log, isJson: this.jsonEnabled() })
    const onHealth = ({ name, error }: SourceHealth) => {
      if (error === undefined) this.report('source-recovered', `source ${name} can be read again`)
      else
        this.report('source-broken', `source ${name} cannot be read, the last good policies stay in force:\n${error}`)
    }
    // A cluster is read while the rest is looked at.
    const opening = Promise.all(config.sources.map((source) => openSource(source, onHealth)))
    opening.catch(() => {})
    // Before anything is enforced: a name or a module that does not exist must not leave closed rules behind.
    const groupId = endpoint.group === undefined ? undefined : await findGroup(endpoint.group)
    await loadPipeline(config.evaluators)
    await requireHost()
    const sources = await opening
    // Probes are answered while the first picture is waited for.
    const monitoring = await Monitoring.start({
      address: config.metrics.address,
      sources,
      version: this.config.version,
      onProblem: (problem) =>
        problem ? this.report('warning', problem) : this.report('note', 'metrics and probes are served now'),
    })
    this.monitoring = monitoring
    const firewall = await Firewall.start({
      sources,
      nodeName,
      mode,
      onFailure,
      denyWith,
      remember,
      queueNumber: queue.first,
      queueCount: queue.count,
      queueLength: queue.maxLength,
      keptSockets: queues.take(queueNumbers(queue)),
      marks: marksOf(config),
      failsafe: failsafeOf(config),
      reachesApiServers: config.failsafe.apiServer,
      unknownPods: unknownPodsOf(config),
      stateDir: config.stateDir,
      evaluators: config.evaluators,
      givesWay: true,
      observe: (event) => this.observe(event),
    })
    let control: ControlServer | undefined
    let stopWatchdog: (() => void) | undefined
    let stopLog = () => {}
    try {
      monitoring.watch(firewall)
      const methods = controlMethods(firewall, monitoring)
      control = await ControlServer.listen(endpoint.socket, methods, groupId, controlStreams(firewall))
      this.tell(() => queues.hold(firewall.queueSockets()))
      const status = firewall.status()
      if (this.jsonEnabled())
        process.stdout.write(`${JSON.stringify({ ...statusJson(status), schema: 'knp.run/v1', event: 'enforcing' })}\n`)
      else process.stdout.write(`${enforcingLine(status)}\n`)
      for (const note of status.sources.flatMap(({ notes }) => notes)) this.report('note', note)
      const warning = protectionWarning(status)
      if (warning) this.report('warning', warning)
      if (mode === 'audit') this.report('warning', 'nothing is enforced: this is an audit (mode)')
      stopLog = logFlows(firewall.flows, { flows: config.log.flows, sink: this.runLog })
      this.tell(() => manager.ready())
      if (config.sources.some((source) => 'kubernetes' in source)) giveBackMemory()
      stopWatchdog = startWatchdog(
        manager,
        () => firewall.rounds(),
        (send) => this.tell(send),
      )
      if (flags.dashboard) await this.showDashboard(endpoint.socket, [stopAsked, firewall.failure])
      else await Promise.race([stopAsked, firewall.failure])
    } finally {
      stopWatchdog?.()
      this.tell(() => manager.stopping())
      await control?.close()
      await firewall.stop(queues.isHeld ? 'kept' : 'given back')
      stopLog()
    }
    this.report('stopped', stoppedText(mode === 'audit' ? 'open' : onFailure, queues.isHeld))
    this.exit(0)
  }

  /** Until its reader has enough, or the firewall ends. Where it breaks off, the firewall goes on without it. */
  private async showDashboard(socket: string, ends: readonly Promise<void>[]): Promise<void> {
    // What goes to a file goes there as always.
    const held = process.stderr.isTTY ? new HeldOutput(process.stderr) : undefined
    const dashboard = new DashboardProcess(socket)
    try {
      const end = await Promise.race([dashboard.ended, ...ends])
      if (typeof end !== 'object') return
      held?.release()
      this.report('warning', `the dashboard ${end.problem}; the firewall goes on, SIGINT ends it`)
      await Promise.race(ends)
    } finally {
      await dashboard.stop()
      held?.release()
    }
  }

  /** What the service manager does not take makes this firewall no worse. */
  private tell(tell: () => void): void {
    try {
      tell()
    } catch (error) {
      this.report('warning', `the service manager cannot be told: ${error instanceof Error ? error.message : error}`)
    }
  }

  private warned: ReadonlySet<string> = new Set()

  private observe(event: FirewallEvent): void {
    if (event.type !== 'applied') this.report(event.type, event.message)
    else {
      const { generation, policies, workloads } = event.status
      const warning = protectionWarning(event.status)
      const { warnings } = event.status
      for (const text of warnings) if (!this.warned.has(text)) this.report('warning', text)
      this.warned = new Set(warnings)
      this.report(
        'applied',
        `generation ${generation} in force: ${policies} policies, ${workloads.protected} workloads protected${warning ? `; ${warning}` : ''}`,
      )
    }
  }

  private runLog: RunLog | undefined

  private report(event: string, message: string): void {
    if (this.runLog) this.runLog.event(event, message)
    else this.note(message)
  }
}

/** What the first picture of a large cluster leaves behind, 40 MB of 100,000 pods, V8 keeps until it needs the room. */
function giveBackMemory(): void {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  collect()
}

/** How many of those who decide are told of: those who did most. */
const MAX_DECIDERS = 500

function stoppedText(onFailure: OnFailure, isHeld: boolean): string {
  const removal = '(`knp ruleset remove` takes them down)'
  if (isHeld)
    return `stopped; the rules stay ${removal}, and packets wait for a verdict until the next start, or until the service manager lets go of the queues`
  return onFailure === 'closed'
    ? `stopped; the rules stay, and drop what needs a verdict until the next start ${removal}`
    : 'stopped; the rules are removed'
}

function controlMethods(firewall: Firewall, monitoring: Monitoring): ControlMethods {
  return {
    status: () => monitoring.complete(firewall.status()),
    apply: ({ folder, confirmMs, kept }) =>
      firewall.apply(folder as string, confirmMs as number, kept as KeptConnection | undefined),
    confirm: () => firewall.confirm(),
    rollback: () => firewall.rollback(),
    deciders: () => deciderTotals(firewall.figures().decisions, MAX_DECIDERS),
    explain: (question) =>
      withQuestionErrors(() => firewall.explain(readQuestion(question as unknown as QuestionText))),
  }
}

function controlStreams(firewall: Firewall): ControlStreams {
  return {
    flows: (params, reader) => streamFlows(firewall.flows, params as unknown as FlowsParams, reader),
  }
}
