import { Flags } from '@oclif/core'
import { CONFIG_FILE, configDefaults, defaultNodeName, formatFailsafe, formatMask } from './config.ts'
import { formatDuration } from './duration.ts'
import { logFormats, loggedFlows, logLevels } from './log-config.ts'
import { modes } from './mode.ts'
import { clusterFlags } from './source-flags.ts'

const { mode, onFailure, denyWith, unknownLocal, holdMs, queue, remember, marks, metrics, control, stateDir } =
  configDefaults
const { failsafe, log } = configDefaults
/** Shown by --help only: a flag that is not given has no value, so that the file's holds. */
const shows = (text: string) => async () => text

/** The configuration file, for commands that take it. */
export const configFlag = Flags.string({
  description: `configuration in YAML or JSON; ${CONFIG_FILE} where it is there`,
  helpValue: 'PATH',
})

/** The same file, for commands that take nothing of it but evaluators. */
export const evaluatorConfigFlag = Flags.string({
  description: 'configuration of `knp run` whose evaluators are asked too, where no --evaluator is given',
  helpValue: 'PATH',
})

/** Evaluators of third parties, for all commands that ask policies. */
export const evaluatorFlag = Flags.string({
  multiple: true,
  multipleNonGreedy: true,
  description:
    'JavaScript module of an evaluator beside the policies, asked before NetworkPolicy or at the place named ' +
    '(quarantine.js@after:Admin; Admin, NetworkPolicy, Baseline); may be repeated',
  helpValue: 'PATH[@before:TIER|@after:TIER]',
})

/** The flags of `knp run`, one for each key of the configuration; config.ts has their defaults and limits. */
export const runFlags = {
  config: configFlag,
  source: Flags.string({
    multiple: true,
    // One value a flag, as everywhere.
    multipleNonGreedy: true,
    description:
      'YAML or JSON manifests: a file, or a folder with its sub-folders; or kubernetes: a cluster; may be repeated',
    helpValue: 'PATH',
  }),
  ...clusterFlags,
  'node-name': Flags.string({
    // A package's manifest is made on another machine.
    noCacheDefault: true,
    defaultHelp: async () => defaultNodeName(),
    description: 'which node of the picture this machine is',
    helpValue: 'NAME',
  }),
  mode: Flags.option({ options: modes })({
    defaultHelp: shows(mode),
    description:
      'audit: nothing is denied; what would be is counted, and told by `knp flows --verdict audit` and the log',
  }),
  'on-failure': Flags.option({ options: ['open', 'closed'] as const })({
    defaultHelp: shows(onFailure),
    description:
      'packets that get no verdict: open lets them pass, closed drops them; open by default where a cluster is a source',
  }),
  'deny-with': Flags.option({ options: ['drop', 'reject'] as const })({
    defaultHelp: shows(denyWith),
    description: 'packets that policies deny: drop is silent, reject tells the sender',
  }),
  'unknown-local': Flags.option({ options: ['deny', 'allow'] as const })({
    defaultHelp: shows(unknownLocal),
    description:
      'traffic of a pod that runs here and that no source has come to know in time: deny drops it, allow leaves it to the other end',
  }),
  hold: Flags.string({
    defaultHelp: shows(formatDuration(holdMs)),
    description: 'how long packets of such a pod wait for it to become known; 0s for not at all',
    helpValue: 'TIME',
  }),
  'pod-cidr': Flags.string({
    multiple: true,
    multipleNonGreedy: true,
    description: 'addresses of the pods that run here, where no Node object has them (podCIDRs); may be repeated',
    helpValue: 'CIDR',
  }),
  'queue-first': Flags.integer({
    defaultHelp: shows(String(queue.first)),
    description: 'number of the first netfilter queue',
  }),
  'queue-count': Flags.integer({
    defaultHelp: shows(String(queue.count)),
    description: 'how many queues there are, numbered from the first on, each with a thread of its own',
  }),
  'queue-max-length': Flags.integer({
    defaultHelp: shows(String(queue.maxLength)),
    description: 'how many packets may wait for a verdict in each queue',
  }),
  'remember-allowed': Flags.string({
    defaultHelp: shows(formatDuration(remember.allowedMs)),
    description: 'how long the kernel lets new connections pass by itself like one that was allowed; 0s for not at all',
    helpValue: 'TIME',
  }),
  'remember-denied': Flags.string({
    defaultHelp: shows(formatDuration(remember.deniedMs)),
    description: 'how long it refuses them by itself like one that was denied; 0s for not at all',
    helpValue: 'TIME',
  }),
  'remember-size': Flags.integer({
    defaultHelp: shows(String(remember.size)),
    description: 'how many of each it remembers, for IPv4 and for IPv6; what is beyond is asked about each time',
  }),
  'remember-log': Flags.boolean({
    allowNo: true,
    description: 'flows and totals by policy tell of each connection that the kernel answers by itself; on by default',
  }),
  'marks-packet': Flags.string({
    defaultHelp: shows(formatMask(marks.packet)),
    description: '7 adjoining bits of the packet mark',
    helpValue: 'MASK',
  }),
  'marks-conntrack': Flags.string({
    defaultHelp: shows(formatMask(marks.conntrack)),
    description: '4 adjoining bits of the connection mark',
    helpValue: 'MASK',
  }),
  'metrics-address': Flags.string({
    defaultHelp: shows(metrics.address),
    description: 'where /metrics, /healthz and /readyz are served: 127.0.0.1:9080, [::1]:9080, or none',
    helpValue: 'ADDRESS:PORT',
  }),
  'control-socket': Flags.string({
    defaultHelp: shows(control.socket),
    description: 'where the running firewall answers',
    helpValue: 'PATH',
  }),
  'control-group': Flags.string({
    description: 'group that may ask the running firewall, beside its own user',
    helpValue: 'NAME',
  }),
  'state-dir': Flags.string({
    defaultHelp: shows(stateDir),
    description: 'folder for what outlives a restart',
    helpValue: 'PATH',
  }),
  'failsafe-inbound': Flags.string({
    multiple: true,
    multipleNonGreedy: true,
    defaultHelp: shows(failsafe.inbound.flatMap(formatFailsafe).join(' ')),
    description: 'what always reaches a protected host: tcp/22, tcp/22@10.0.0.0/8, or none; may be repeated',
    helpValue: 'PORT',
  }),
  'failsafe-outbound': Flags.string({
    multiple: true,
    multipleNonGreedy: true,
    defaultHelp: shows(failsafe.outbound.flatMap(formatFailsafe).join(' ')),
    description: 'what a protected host always reaches: udp/53, udp/53@10.0.0.53/32, or none; may be repeated',
    helpValue: 'PORT',
  }),
  'failsafe-api-server': Flags.boolean({
    allowNo: true,
    description:
      'a protected host always reaches the API servers that are sources; by default where --failsafe-outbound is not set',
  }),
  'log-level': Flags.option({ options: logLevels })({
    defaultHelp: shows(log.level),
    description: 'what is told of the firewall itself',
  }),
  'log-flows': Flags.option({ options: loggedFlows })({
    defaultHelp: shows(log.flows),
    description: 'which decisions are told: denied (audited ones too), all, none',
  }),
  'log-format': Flags.option({ options: logFormats })({
    defaultHelp: shows(log.format),
    description: 'lines for people (text), JSON, or text on a terminal and JSON elsewhere (auto)',
  }),
  evaluator: evaluatorFlag,
}
