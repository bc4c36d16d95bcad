/**
 * Measures one world in a process of its own, so that neither its memory nor what V8 has learnt is another's:
 * `node --expose-gc child.ts SHAPE FLOWS`, over the messages below.
 */
import { performance } from 'node:perf_hooks'
import {
  adminTier,
  attachEngine,
  baselineTier,
  type CompiledPolicy,
  Compiler,
  networkPolicies,
  PacketDecoder,
} from '../../src/engine/index.ts'
import { cpuTimeMs } from './cpu-time.ts'
import { countFlows, decideAll, FLOW_WORDS, FlowMaker, type FlowStatistics, type Flows } from './flows.ts'
import { measureUpdates, type UpdateTimes } from './updates.ts'
import { makeWorld, objectsOf, shapes } from './worlds.ts'

export interface Prepared {
  readonly compileSeconds: number
  /** Bytes. */
  readonly objectMemory: number
  readonly engineMemory: number
  /** After the updates: what is published twice is there twice. */
  readonly engineMemoryAfter: number
  /** Bytes that the packet thread reads. */
  readonly tables: number
  readonly updates: UpdateTimes
  /** Workloads that a NetworkPolicy selects. */
  readonly selected: number
  readonly flowsIPv6: number
}

export interface Pass {
  /** CPU time. */
  readonly seconds: number
  readonly allowed: number
}

/** What the process answers to `pass` and `count`; `prepared` comes first, without being asked. */
export interface Answers {
  readonly prepared: Prepared
  readonly pass: Pass
  readonly count: FlowStatistics
}

export type Request = 'pass' | 'count'

const kinds = [adminTier, networkPolicies, baselineTier]

function memory(): number {
  globalThis.gc!()
  globalThis.gc!()
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return heapUsed + arrayBuffers
}

/** Measures everything but decisions. The compiler and its world are garbage afterwards: the packet thread has neither. */
function prepare(shapeName: string, flowCount: number) {
  const shape = shapes.find(({ name }) => name === shapeName)!
  const before = memory()
  const world = makeWorld(shape)
  const delta = { upserts: objectsOf(world), deletes: [] }
  const withObjects = memory()
  const start = performance.now()
  // No node: a gateway, which decides for every workload.
  const compiler = new Compiler(kinds)
  let compiled: CompiledPolicy = compiler.update(delta)
  const compileSeconds = (performance.now() - start) / 1000
  const withEngine = memory()
  const updates = measureUpdates(world, compiler)
  const afterUpdates = memory()
  compiled = compiler.update({ upserts: [], deletes: [] })
  const maker = new FlowMaker(world)
  const flows = maker.make(flowCount)
  const prepared: Prepared = {
    compileSeconds,
    objectMemory: withObjects - before,
    engineMemory: withEngine - withObjects,
    engineMemoryAfter: afterUpdates - withObjects,
    tables: sizeOf(compiled.generation),
    updates,
    selected: maker.selectedCount,
    flowsIPv6: shareOfIPv6(flows),
  }
  return { prepared, flows, generation: compiled.generation }
}

function shareOfIPv6(flows: Flows): number {
  let count = 0
  for (let at = 0; at < flows.length; at += FLOW_WORDS) if (flows[at] !== 0) count++
  return (count * FLOW_WORDS) / flows.length
}

/** Bytes of all arrays in an object, however deep. */
function sizeOf(value: unknown): number {
  if (ArrayBuffer.isView(value)) return value.byteLength
  if (typeof value !== 'object' || value === null) return 0
  return Object.values(value).reduce((sum: number, each) => sum + sizeOf(each), 0)
}

function answer<Kind extends keyof Answers>(kind: Kind, value: Answers[Kind]): void {
  process.send!({ kind, value })
}

const [shape, flowCount] = process.argv.slice(2)
const { prepared, flows, generation } = prepare(shape!, Number(flowCount))
const engine = attachEngine(generation, kinds)
const packet = new PacketDecoder()
globalThis.gc!()
process.on('message', (request: Request) => {
  if (request === 'count') {
    answer('count', countFlows(flows, generation, engine, packet))
    return
  }
  const start = cpuTimeMs()
  const allowed = decideAll(flows, engine, packet)
  answer('pass', { seconds: (cpuTimeMs() - start) / 1000, allowed })
})
answer('prepared', prepared)
