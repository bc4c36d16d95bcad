import { type Config, failsafeOf, marksOf, unknownPodsOf } from './config.ts'
import { Monitoring } from './control/monitoring.ts'
import { type ControlMethods, ControlServer, type ControlStreams, findGroup } from './control/socket.ts'
import { HeldOutput } from './dashboard/held-output.ts'
import { DashboardProcess } from './dashboard/process.ts'
import { deciderTotals } from './decider-totals.ts'
import { requireHost } from './doctor.ts'
import { loadPipeline } from './evaluators.ts'
import { Firewall } from './firewall.ts'
import type { FirewallEvent } from './firewall-options.ts'
import { logFlows } from './flows/flow-log.ts'
import { type FlowsParams, streamFlows } from './flows/stream.ts'
import type { KeptConnection } from './kept-connection.ts'
import type { KeptQueues } from './kept-queues.ts'
import { enforcingLine, protectionWarning, statusJson } from './output/status.ts'
import { type QuestionText, readQuestion, withQuestionErrors } from './question.ts'
import { queueNumbers } from './queue-range.ts'
import type { OnFailure } from './ruleset/text.ts'
import type { RunLog } from './run-log.ts'
import type { Source } from './sources/source.ts'
import type { ServiceManager } from './systemd.ts'
import { startWatchdog } from './watchdog.ts'

/** What a firewall runs by, and whom it tells. */
export interface FirewallRunOptions {
  readonly config: Config
  /** They may still be opened. */
  readonly sources: Promise<readonly Source[]>
  readonly manager: ServiceManager
  readonly queues: KeptQueues
  readonly version: string
  readonly isJson: boolean
  /** The dashboard is shown, and the firewall ends with it. */
  readonly isOnTerminal: boolean
  readonly report: (event: string, message: string) => void
  readonly runLog: RunLog
}

/** The firewall with all that belongs to it while it runs: control socket, metrics and probes, log, service manager. */
export class FirewallRun {
  readonly #options: FirewallRunOptions
  /** What was warned of already. */
  #warned: ReadonlySet<string> = new Set()

  constructor(options: FirewallRunOptions) {
    this.#options = options
  }

  /** Enforces until SIGTERM or SIGINT. Throws KnpError as `Firewall.start`, and what the firewall fails with. */
  async untilStopped(): Promise<void> {
    const { config, version, report } = this.#options
    const stopAsked = new Promise<void>((resolve) => {
      process.once('SIGTERM', resolve)
      process.once('SIGINT', resolve)
    })
    // A terminal that closes must not end the firewall; what reload means today happens by itself.
    process.on('SIGHUP', () => {})
    const { control, evaluators, metrics } = config
    // Before anything is enforced: a name or a module that does not exist must not leave closed rules behind.
    const groupId = control.group === undefined ? undefined : await findGroup(control.group)
    await loadPipeline(evaluators)
    await requireHost()
    const sources = await this.#options.sources
    // Probes are answered while the first picture is waited for.
    const monitoring = await Monitoring.start({
      address: metrics.address,
      sources,
      version,
      onProblem: (problem) =>
        problem ? report('warning', problem) : report('note', 'metrics and probes are served now'),
    })
    try {
      await this.#enforce(sources, monitoring, groupId, stopAsked)
    } finally {
      await monitoring.close()
    }
  }

  async #enforce(
    sources: readonly Source[],
    monitoring: Monitoring,
    groupId: number | undefined,
    stopAsked: Promise<void>,
  ): Promise<void> {
    const { config, manager, queues, isOnTerminal, report, runLog } = this.#options
    const { mode, onFailure, control: endpoint } = config
    const firewall = await this.#start(sources)
    let control: ControlServer | undefined
    let stopWatchdog: (() => void) | undefined
    let stopLog = () => {}
    try {
      // Before anybody is told that packets are decided, and sends some.
      stopLog = logFlows(firewall.flows, { flows: config.log.flows, sink: runLog })
      monitoring.watch(firewall)
      const methods = controlMethods(firewall, monitoring)
      control = await ControlServer.listen(endpoint.socket, methods, groupId, controlStreams(firewall))
      this.#tell(() => queues.hold(firewall.queueSockets()))
      const status = firewall.status()
      if (this.#options.isJson)
        process.stdout.write(`${JSON.stringify({ ...statusJson(status), schema: 'knp.run/v1', event: 'enforcing' })}\n`)
      else process.stdout.write(`${enforcingLine(status)}\n`)
      for (const note of status.sources.flatMap(({ notes }) => notes)) report('note', note)
      const warning = protectionWarning(status)
      if (warning) report('warning', warning)
      if (mode === 'audit') report('warning', 'nothing is enforced: this is an audit (mode)')
      this.#tell(() => manager.ready())
      stopWatchdog = startWatchdog(
        manager,
        () => firewall.rounds(),
        (send) => this.#tell(send),
      )
      if (isOnTerminal) await this.#showDashboard(endpoint.socket, [stopAsked, firewall.failure])
      else await Promise.race([stopAsked, firewall.failure])
    } finally {
      stopWatchdog?.()
      this.#tell(() => manager.stopping())
      await control?.close()
      await firewall.stop(queues.isHeld ? 'kept' : 'given back')
      stopLog()
    }
    report('stopped', stoppedText(mode === 'audit' ? 'open' : onFailure, queues.isHeld))
  }

  #start(sources: readonly Source[]): Promise<Firewall> {
    const { config, queues } = this.#options
    const { nodeName, mode, onFailure, denyWith, queue, remember } = config
    return Firewall.start({
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
      observe: (event) => this.#observe(event),
    })
  }

  /** Until its reader has enough, or the firewall ends. Where it breaks off, the firewall goes on without it. */
  async #showDashboard(socket: string, ends: readonly Promise<void>[]): Promise<void> {
    // What goes to a file goes there as always.
    const held = process.stderr.isTTY ? new HeldOutput(process.stderr) : undefined
    const dashboard = new DashboardProcess(socket)
    try {
      const end = await Promise.race([dashboard.ended, ...ends])
      if (typeof end !== 'object') return
      held?.release()
      this.#options.report('warning', `the dashboard ${end.problem}; the firewall goes on, SIGINT ends it`)
      await Promise.race(ends)
    } finally {
      await dashboard.stop()
      held?.release()
    }
  }

  /** What the service manager does not take makes this firewall no worse. */
  #tell(tell: () => void): void {
    try {
      tell()
    } catch (error) {
      this.#options.report(
        'warning',
        `the service manager cannot be told: ${error instanceof Error ? error.message : error}`,
      )
    }
  }

  #observe(event: FirewallEvent): void {
    if (event.type !== 'applied') this.#options.report(event.type, event.message)
    else {
      const { generation, policies, workloads } = event.status
      const warning = protectionWarning(event.status)
      const { warnings } = event.status
      for (const text of warnings) if (!this.#warned.has(text)) this.#options.report('warning', text)
      this.#warned = new Set(warnings)
      this.#options.report(
        'applied',
        `generation ${generation} in force: ${policies} policies, ${workloads.protected} workloads protected${warning ? `; ${warning}` : ''}`,
      )
    }
  }
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
