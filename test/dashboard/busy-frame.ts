import { initialState, reduce } from '../../src/dashboard/state.ts'
import { allowed, audited, flow, status, T0 } from './flows.ts'

/** A frame with all that has a colour in it. */
export function busyFrame({ frameText }: typeof import('../../src/dashboard/show.ts')): string {
  const known = reduce(initialState, { type: 'status', status: status({}, { warnings: ['doubtful'] }), atMs: T0 })
  const told = reduce(known, { type: 'flows', items: [flow(), allowed(), audited()] })
  const lost = reduce(told, { type: 'lost', reason: 'no firewall runs here', atMs: T0 })
  return frameText(reduce(lost, { type: 'move', by: 1 }), 80, 24)
}
