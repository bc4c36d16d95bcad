import t from 'tap'
import { podOf } from '../../../bench/cluster/pods.ts'
import { clusterWorld } from '../../../bench/cluster/world.ts'
import { ObjectReader, objectKey, readPod, type Workload } from '../../../src/engine/index.ts'
import { attempt } from '../../../src/engine/object-reader.ts'
import { RecentTexts } from '../../../src/sources/kubernetes/json-scanner.ts'
import { PodBatchReader } from '../../../src/sources/kubernetes/pod-batch-reader.ts'
import { PodBatchWriter } from '../../../src/sources/kubernetes/pod-batch-writer.ts'
import { InvalidProtobuf, ProtobufReader } from '../../../src/sources/kubernetes/protobuf.ts'
import { builtInResources } from '../../../src/sources/kubernetes/resources.ts'
import { type Random, seededRandom } from '../../fixtures/random.ts'
import { pod } from './follow.ts'
import { encodePodItem } from './protobuf-encoder.ts'

const { wantedMessage } = builtInResources[0]!

type Value = Readonly<Record<'metadata' | 'spec' | 'status', Record<string, unknown>>>

/** As a controller and a kubelet leave it. */
function plainPod(): Value {
  const [workload] = clusterWorld(100).pods
  const state = { number: 1, changedAt: 1.7e9, isReady: true, resourceVersion: '7' }
  return structuredClone(podOf(workload!, state)) as unknown as Value
}

/** A pod's message, without the item's head. */
function encode(value: object): Buffer {
  const item = encodePodItem(value)
  const head = new ProtobufReader(item, 1, new RecentTexts())
  const end = head.lengthEnd(item.length)
  return item.subarray(head.at, end)
}

/** Pods that went through batches of one list, as copies as another thread gets them. */
class Pods {
  #reader = new PodBatchReader()
  #pod: Workload | undefined
  readonly #writer = new PodBatchWriter({
    begin: () => {
      this.#reader = new PodBatchReader()
    },
    takeBatch: (batch) => {
      this.#reader.read(structuredClone(batch), (key, pod) => {
        if (key !== objectKey(pod)) throw new Error(key)
        // All that it says; the pod itself has no fields that could be compared.
        this.#pod = pod.toJSON()
      })
    },
  })

  begin(): void {
    this.#writer.begin()
  }

  read(bytes: Buffer): Workload | undefined {
    this.#pod = undefined
    const isPlain = this.#writer.takeMessage(new ProtobufReader(bytes, 0, new RecentTexts()), bytes.length)
    this.#writer.flush()
    if (isPlain !== (this.#pod !== undefined)) throw new Error('a pod was lost')
    return this.#pod
  }
}

function readSlowly(bytes: Buffer) {
  const value = new ProtobufReader(bytes, 0, new RecentTexts()).read(wantedMessage!, bytes.length)
  return attempt(() => readPod(new ObjectReader(value)))
}

t.test('a plain pod is read, and shares what it has alike with others', async (t) => {
  const pods = new Pods()
  const bytes = encode(plainPod())
  const first = pods.read(bytes)
  t.ok(first)
  t.same(first, readSlowly(bytes))
  const second = pods.read(bytes)
  t.equal(second!.labels, first!.labels)
  t.equal(second!.ports, first!.ports)
})

t.test('a pod of a list is written as any other', async (t) => {
  const bytes = encode(plainPod())
  const written: string[] = []
  const reader = new PodBatchReader()
  const writer = new PodBatchWriter({
    begin: () => {},
    takeBatch: (batch) => reader.read(batch, (_, pod) => written.push(JSON.stringify({ object: pod }))),
  })
  for (let i = 0; i < 2; i++) writer.takeMessage(new ProtobufReader(bytes, 0, new RecentTexts()), bytes.length)
  writer.flush()
  const plain = JSON.stringify({ object: readSlowly(bytes) })
  t.same(written, [plain, plain])
})

t.test('a list that begins anew tells everything again', async (t) => {
  const pods = new Pods()
  const bytes = encode(plainPod())
  const first = pods.read(bytes)
  pods.begin()
  t.same(pods.read(bytes), first)
})

t.test('pods that are plain, and those that are left to others', async (t) => {
  const plain: [string, (pod: Value) => void][] = [
    [
      'pending, without an address',
      ({ status }) => Object.assign(status, { phase: 'Pending', podIP: undefined, podIPs: undefined }),
    ],
    ['two addresses', ({ status }) => Object.assign(status, { podIPs: [{ ip: '10.0.0.1' }, { ip: 'fd00::1' }] })],
    ['no ports', ({ spec }) => Object.assign(spec, { containers: [{ name: 'a' }] })],
    [
      'ports in the second container',
      ({ spec }) =>
        Object.assign(spec, {
          containers: [{ name: 'a' }, { name: 'b', ports: [{ name: 'http', containerPort: 80, protocol: 'TCP' }] }],
        }),
    ],
    ['explicitly not of the node', ({ spec }) => Object.assign(spec, { hostNetwork: false })],
  ]
  for (const [name, change] of plain) {
    const value = plainPod()
    change(value)
    const bytes = encode(value)
    const pods = new Pods()
    t.ok(pods.read(bytes), name)
    t.same(pods.read(bytes), readSlowly(bytes), name)
  }
  const others: [string, (pod: Value) => void][] = [
    ['finished', ({ status }) => Object.assign(status, { phase: 'Succeeded' })],
    ['of the node', ({ spec }) => Object.assign(spec, { hostNetwork: true })],
    ['not scheduled', ({ spec }) => Object.assign(spec, { nodeName: undefined })],
    ['init containers', ({ spec }) => Object.assign(spec, { initContainers: [{ name: 'a' }] })],
    ['no containers', ({ spec }) => Object.assign(spec, { containers: undefined })],
    [
      'ports in two containers',
      ({ spec }) => Object.assign(spec, { containers: [1, 2].map((port) => ({ ports: [{ containerPort: port }] })) }),
    ],
    ['no labels', ({ metadata }) => Object.assign(metadata, { labels: undefined })],
    ['an impossible label', ({ metadata }) => Object.assign(metadata, { labels: { '-': 'x' } })],
    ['an impossible name', ({ metadata }) => Object.assign(metadata, { name: 'A' })],
    ['an impossible namespace', ({ metadata }) => Object.assign(metadata, { namespace: 'ä' })],
    ['an impossible port', ({ spec }) => Object.assign(spec, { containers: [{ ports: [{ containerPort: 70000 }] }] })],
    ['one address in the old field', ({ status }) => Object.assign(status, { podIP: '10.0.0.1', podIPs: undefined })],
    ...[
      '300.0.0.1',
      '10.0.0',
      '10.0.0.01',
      '10.0.0.1.2',
      '10..0.1',
      '.10.0.0.1',
      '10.0.0.',
      '1000.0.0.1',
      '10.0.0.256',
      'x',
    ].map((ip): [string, (pod: Value) => void] => [ip, ({ status }) => Object.assign(status, { podIPs: [{ ip }] })]),
  ]
  for (const [name, change] of others) {
    const value = plainPod()
    change(value)
    t.equal(new Pods().read(encode(value)), undefined, name)
  }
})

t.test('whatever the bytes are, they are read as others read them, or not at all', async (t) => {
  const random = seededRandom(11)
  const originals = [encode(plainPod()), encode(pod('a')), encode(pod('b', { app: 'b' }, '10.0.0.9'))]
  const pods = new Pods()
  let plain = 0
  let invalid = 0
  for (let i = 0; i < 20_000; i++) {
    const bytes = mutated(random, random.pick(originals))
    try {
      const quick = pods.read(bytes)
      if (!quick) continue
      plain++
      const slow = readSlowly(bytes)
      if (JSON.stringify(text(quick)) !== JSON.stringify(text(slow))) t.same(quick, slow, bytes.toString('hex'))
    } catch (error) {
      if (!(error instanceof InvalidProtobuf)) throw error
      invalid++
    }
  }
  t.ok(plain > 3000, `${plain} were plain`)
  t.ok(invalid > 1000, `${invalid} were no messages`)
})

/** With some bytes changed, doubled, or cut off. */
function mutated(random: Random, bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes)
  for (let n = random.below(3); n > 0; n--) copy[random.below(copy.length)] = random.below(256)
  if (random.oneIn(8)) return copy.subarray(0, random.below(copy.length))
  return random.oneIn(8) ? Buffer.concat([copy, random.oneIn(2) ? bytes : copy.subarray(0, 20)]) : copy
}

function text(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value ?? null, (_, inner) => (inner instanceof Map ? [...inner] : inner)))
}
