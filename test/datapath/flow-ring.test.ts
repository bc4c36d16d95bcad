import t from 'tap'
import {
  createFlowRing,
  type DecidedPacket,
  FlowReader,
  FlowWriter,
  flowOrigins,
  packetForms,
} from '../../src/datapath/flow-ring.ts'
import { outcomes } from '../../src/datapath/judge.ts'
import { parseAddress } from '../../src/engine/address.ts'

const CAPACITY = 16_384
const MARGIN = 1024
const READABLE = CAPACITY - MARGIN

function packetTo(port: number, source = '10.0.0.2', destination = '10.0.0.3'): DecidedPacket {
  return {
    family: source.includes(':') ? 6 : 4,
    protocol: 6,
    source: { ...parseAddress(source)!, port: 40_000 },
    destination: { ...parseAddress(destination)!, port },
    icmpType: 0,
    icmpCode: 0,
  }
}

function write(writer: FlowWriter, first: number, count: number): void {
  writer.begin(1_700_000_000_000.5)
  for (let i = first; i < first + count; i++) {
    writer.write(packetTo(i & 0xffff), i, outcomes.DENIED, packetForms.FIRST, flowOrigins.ASKED, 2)
    if (i % MARGIN === 0) writer.publish()
  }
  writer.publish()
}

t.test('what was written is read as it was', async (t) => {
  const ring = createFlowRing()
  const reader = new FlowReader(ring)
  const writer = new FlowWriter(ring)
  const v6: DecidedPacket = { ...packetTo(65_535, 'fd00::1', 'ffff::ffff'), protocol: 58, icmpType: 255, icmpCode: 254 }
  writer.begin(1_700_000_000_000.5)
  writer.write(v6, 0xffffffff, outcomes.FAILED, packetForms.MIDWAY, flowOrigins.REMEMBERED, 3, true)
  writer.write(undefined, 1, outcomes.UNREADABLE, packetForms.FIRST, flowOrigins.ASKED, 1)
  t.same(reader.read(10), [], 'nothing is read before it is told of')
  writer.publish()
  t.same(reader.read(10), [
    {
      timeMs: 1_700_000_000_000.5,
      generation: 0xffffffff,
      packet: v6,
      outcome: outcomes.FAILED,
      form: packetForms.MIDWAY,
      origin: flowOrigins.REMEMBERED,
      hook: 3,
      isAudited: true,
    },
    {
      timeMs: 1_700_000_000_000.5,
      generation: 1,
      packet: undefined,
      outcome: outcomes.UNREADABLE,
      form: packetForms.FIRST,
      origin: flowOrigins.ASKED,
      hook: 1,
      isAudited: false,
    },
  ])
  t.same(reader.read(10), [])
})

t.test('readers are independent, and read in parts', async (t) => {
  const ring = createFlowRing()
  const writer = new FlowWriter(ring)
  write(writer, 0, 10)
  const late = new FlowReader(ring)
  const past = new FlowReader(ring, 4)
  const all = new FlowReader(ring, 1_000_000)
  write(writer, 10, 3)
  const generations = (reader: FlowReader, most: number) => reader.read(most).map(({ generation }) => generation)
  t.same(generations(late, 2), [10, 11])
  t.same(generations(late, 2), [12])
  t.same(generations(past, 100), [6, 7, 8, 9, 10, 11, 12])
  t.same(
    generations(all, 100),
    Array.from({ length: 13 }, (_, i) => i),
    'of what was never written nothing is read',
  )
})

t.test('who is too late is told how much it missed, and reads nothing that is being written over', async (t) => {
  const ring = createFlowRing()
  const reader = new FlowReader(ring)
  const writer = new FlowWriter(ring)
  write(writer, 0, READABLE)
  t.equal(reader.read(100_000).length, READABLE, 'so many wait for a reader')
  t.equal(reader.missed, 0)
  write(writer, 0, CAPACITY + 5000)
  const records = reader.read(100_000)
  t.equal(reader.missed, 5000 + MARGIN)
  t.same(records[0]!.generation, 5000 + MARGIN, 'the oldest that is left')
  t.equal(records.length, READABLE)
  t.equal(records.at(-1)!.generation, CAPACITY + 4999)
})

t.test('positions go on beyond 32 bits', async (t) => {
  const ring = createFlowRing()
  ring.cursor[0] = -3
  const reader = new FlowReader(ring)
  write(new FlowWriter(ring), 0, 6)
  t.same(
    reader.read(100).map(({ generation }) => generation),
    [0, 1, 2, 3, 4, 5],
  )
  t.equal(reader.missed, 0)
})
