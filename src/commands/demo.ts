import { KnpCommand } from '../command.ts'
import { runDemo } from '../demo.ts'
import { requireHost } from '../doctor.ts'
import { demoJson, formatDemo, hasDemoPassed } from '../output/demo.ts'

export default class Demo extends KnpCommand {
  static override summary = 'The firewall on real packets, in network namespaces of its own'
  static override description =
    'Builds a small shop of network namespaces, runs the firewall on its router, opens real connections, and compares what ' +
    'became of them with what the policies say. Touches nothing else of this machine. Needs root. ' +
    '\n\nExit status: 0 everything as the policies say, 1 not, 5 this machine cannot enforce.'
  static override examples = ['<%= config.bin %> demo']

  async run(): Promise<void> {
    await this.parse(Demo)
    await requireHost()
    const report = await runDemo((line) => this.note(line))
    this.note('')
    await this.finish(demoJson(report), formatDemo(report), hasDemoPassed(report) ? 0 : 1)
  }
}
