/**
 * The firewall in the network namespace that this process runs in, with the world of the datapath bench in memory:
 * `node firewall.ts OPTIONS`, options as JSON. Prints `ready` when it judges packets. Each number on standard input is how
 * many workloads a second have other labels from then on; the answer is what happened since the number before, as JSON.
 * Runs until SIGTERM and takes its ruleset down.
 */
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { configDefaults, failsafeOf, marksOf } from '../src/config.ts'
import { readObject } from '../src/engine/index.ts'
import { Firewall } from '../src/firewall.ts'
import type { QueueRange } from '../src/queue-range.ts'
import { MemorySource } from '../src/sources/memory.ts'
import { labelChanges, Updates } from './datapath/updates.ts'
import { type Ends, worldManifests } from './datapath/world.ts'

export interface BenchFirewallOptions {
  readonly ends: Ends
  readonly queues: QueueRange
  readonly stateDir: string
}

/** What happened while the rate of updates was the same. */
export interface UpdatePhase {
  readonly seconds: number
  readonly updates: number
  /** How often a new picture came into force. */
  readonly generations: number
}

const { ends, queues, stateDir }: BenchFirewallOptions = JSON.parse(process.argv[2] ?? '')
const objects = worldManifests(ends).map((manifest) => readObject(manifest)!)
const source = new MemorySource(objects)
const updates = new Updates(source, labelChanges(objects))
const firewall = await Firewall.start({
  sources: [source],
  // None of the world's: a gateway, which decides for every workload.
  nodeName: 'gateway',
  stateDir,
  onFailure: 'open',
  denyWith: configDefaults.denyWith,
  remember: configDefaults.remember,
  failsafe: failsafeOf(configDefaults),
  queueNumber: queues.first,
  queueCount: queues.count,
  queueLength: configDefaults.queue.maxLength,
  marks: marksOf(configDefaults),
  givesWay: true,
  observe: (event) => {
    if (event.type !== 'applied') process.stderr.write(`${event.message}\n`)
  },
})
const input = createInterface({ input: process.stdin })
let phaseStart = performance.now()
let phaseGeneration = firewall.status().generation
input.on('line', (line) => {
  const now = performance.now()
  const { generation } = firewall.status()
  const phase: UpdatePhase = {
    seconds: (now - phaseStart) / 1000,
    updates: updates.setRate(Number(line)),
    generations: generation - phaseGeneration,
  }
  process.stdout.write(`${JSON.stringify(phase)}\n`)
  phaseGeneration = generation
  phaseStart = now
})
process.stdout.write('ready\n')
await Promise.race([once(process, 'SIGTERM'), firewall.failure])
input.close()
updates.setRate(0)
await firewall.stop()
