import { setFlagsFromString } from 'node:v8'
import { Flags } from '@oclif/core'
import { KnpCommand } from '../command.ts'
import { type Config, loadConfig, requireSources } from '../config.ts'
import { KnpError } from '../errors.ts'
import { KeptQueues } from '../kept-queues.ts'
import { configJson, formatConfig } from '../output/config.ts'
import { runFlags } from '../run-flags.ts'
import { openRunLog, type RunLog } from '../run-log.ts'
import { openSource } from '../sources/open.ts'
import type { Source, SourceHealth } from '../sources/source.ts'
import { ServiceManager } from '../systemd.ts'

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
      const { flags } = await this.parse(Run)
      const config = await loadConfig(flags)
      requireSources(config)
      if (flags.dashboard && !(process.stdin.isTTY && process.stdout.isTTY)) {
        throw new KnpError('USAGE', '--dashboard: this is no terminal', {
          hint: 'run `knp dashboard` on one, beside the firewall',
        })
      }
      if (flags['print-config']) await this.finish(configJson(config), formatConfig(config))
      this.runLog = await openRunLog({ ...config.log, isJson: this.jsonEnabled() })
      // A cluster is read while the rest is loaded and looked at.
      const sources = this.openSources(config)
      const { FirewallRun } = await import('../firewall-run.ts')
      const run = new FirewallRun({
        config,
        sources,
        manager,
        queues,
        version: this.config.version,
        isJson: this.jsonEnabled(),
        isOnTerminal: flags.dashboard,
        report: (event, message) => this.report(event, message),
        runLog: this.runLog,
      })
      await run.untilStopped()
      this.exit(0)
    } catch (error) {
      // A start that fails may fail again and again: until one succeeds nobody answers what waits.
      if (!queues.isHeld) {
        try {
          queues.release()
        } catch (problem) {
          this.report('warning', `the service manager cannot be told: ${(problem as Error).message}`)
        }
      }
      throw error
    } finally {
      this.runLog?.close()
    }
  }

  private openSources({ sources }: Config): Promise<Source[]> {
    // The room for what is new grows with a cluster's first list, by 100 MB, and is never given back.
    if (sources.some((source) => 'kubernetes' in source)) setFlagsFromString('--semi-space-growth-factor=1')
    const onHealth = ({ name, error }: SourceHealth) => {
      if (error === undefined) this.report('source-recovered', `source ${name} can be read again`)
      else
        this.report('source-broken', `source ${name} cannot be read, the last good policies stay in force:\n${error}`)
    }
    const opening = Promise.all(sources.map((source) => openSource(source, onHealth)))
    opening.catch(() => {})
    return opening
  }

  private runLog: RunLog | undefined

  private report(event: string, message: string): void {
    if (this.runLog) this.runLog.event(event, message)
    else this.note(message)
  }
}
