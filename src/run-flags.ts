import { hostname } from 'node:os'
import { Flags } from '@oclif/core'
import { DEFAULT_CONNECTION_MASK, DEFAULT_PACKET_MASK, layoutMarks, type MarkLayout } from './datapath/marks.ts'
import { KnpError } from './errors.ts'

/** The flags of `knp run`, one for each key of the configuration. */
export const runFlags = {
  'node-name': Flags.string({
    default: async () => hostname().toLowerCase(),
    description: 'which node of the picture this machine is',
    helpValue: 'NAME',
  }),
  'on-failure': Flags.option({ options: ['open', 'closed'] as const, default: 'closed' as const })({
    description: 'packets that get no verdict: open lets them pass, closed drops them',
  }),
  'queue-first': Flags.integer({ default: 100, min: 0, max: 65535, description: 'number of the netfilter queue' }),
  'queue-max-length': Flags.integer({
    default: 8192,
    min: 1,
    max: 1 << 20,
    description: 'how many packets may wait for a verdict',
  }),
  'state-dir': Flags.string({
    default: '/var/lib/knp',
    description: 'where the last good picture is kept for the next start',
    helpValue: 'PATH',
  }),
  'marks-packet': Flags.string({
    default: hex(DEFAULT_PACKET_MASK),
    description: '7 adjoining bits of the packet mark',
    helpValue: 'MASK',
  }),
  'marks-conntrack': Flags.string({
    default: hex(DEFAULT_CONNECTION_MASK),
    description: '4 adjoining bits of the connection mark',
    helpValue: 'MASK',
  }),
}

/** Throws KnpError USAGE where the masks have too few bits. */
export function marksOf(flags: { 'marks-packet': string; 'marks-conntrack': string }): MarkLayout {
  const layout = layoutMarks(Number(flags['marks-packet']), Number(flags['marks-conntrack']))
  if (layout) return layout
  throw new KnpError(
    'USAGE',
    `marks ${flags['marks-packet']} and ${flags['marks-conntrack']}: masks with 7 and 4 adjoining bits are needed`,
    {
      hint: `the defaults are ${hex(DEFAULT_PACKET_MASK)} and ${hex(DEFAULT_CONNECTION_MASK)}`,
    },
  )
}

function hex(mask: number): string {
  return `0x${(mask >>> 0).toString(16).padStart(8, '0')}`
}
