import fc from 'fast-check'
import t from 'tap'
import { podOf } from '../../../bench/cluster/pods.ts'
import { clusterWorld } from '../../../bench/cluster/world.ts'
import { HeldObjects } from '../../../src/sources/kubernetes/held-objects.ts'
import { Interner } from '../../../src/sources/kubernetes/interner.ts'
import { RecentTexts } from '../../../src/sources/kubernetes/json-scanner.ts'
import { takeMessage } from '../../../src/sources/kubernetes/list.ts'
import { ListReader } from '../../../src/sources/kubernetes/list-reader.ts'
import { PodBatchWriter } from '../../../src/sources/kubernetes/pod-batch-writer.ts'
import { InvalidProtobuf, message, ProtobufReader } from '../../../src/sources/kubernetes/protobuf.ts'
import { PROTOBUF, ProtobufListReader } from '../../../src/sources/kubernetes/protobuf-list-reader.ts'
import { builtInResources } from '../../../src/sources/kubernetes/resources.ts'
import { listsOf } from './api-server.ts'
import { follow, pod, said, serve, soon } from './follow.ts'
import { encodePodItem, encodePodListHead, podListEnd } from './protobuf-encoder.ts'

const pods = builtInResources.find(({ kind }) => kind === 'Pod')!
const metadata = { resourceVersion: '100', continue: '3', remainingItemCount: 7 }

function encodeList(items: readonly object[]): Buffer {
  const encoded = Buffer.concat(items.map(encodePodItem))
  return Buffer.concat([encodePodListHead(metadata, encoded.length), encoded, podListEnd])
}

/** What is held of a list that arrives in these parts. */
function readInParts(bytes: Buffer, ...cuts: readonly number[]) {
  const held = new HeldObjects(pods, new Interner())
  held.begin()
  const writer = new PodBatchWriter(held)
  const reader = new ProtobufListReader((item, end) => takeMessage(writer, item, end, pods.wantedMessage!))
  const places = [0, ...cuts.toSorted((a, b) => a - b), bytes.length]
  for (let i = 1; i < places.length; i++) reader.write(bytes.subarray(places[i - 1], places[i]))
  const page = reader.end()
  writer.flush()
  return { page, objects: held.end().upserts.map(said), problems: held.problems }
}

function readJSON(items: readonly object[]) {
  const held = new HeldObjects(pods, new Interner())
  held.begin()
  const reader = new ListReader(pods.wanted, (item) => held.take(item))
  reader.write(Buffer.from(JSON.stringify({ metadata, items })))
  return { page: reader.end(), objects: held.end().upserts.map(said), problems: held.problems }
}

/** Of a deployment, of a job, and what people make by hand. */
const items: object[] = [
  ...clusterWorld(500)
    .pods.slice(0, 40)
    .map((workload, number) =>
      podOf(workload, { number, changedAt: 1.7e9, isReady: number % 2 === 0, resourceVersion: '7' }),
    ),
  pod('plain'),
  {
    metadata: {
      name: 'sidecar',
      namespace: 'shop',
      creationTimestamp: '2024-02-29T23:59:59Z',
      labels: { a: '', b: 'ü' },
    },
    spec: {
      nodeName: '',
      hostNetwork: false,
      containers: [
        { name: 'a', ports: [{ containerPort: 65535, protocol: 'UDP', name: 'dns' }] },
        { name: 'b' },
        { name: 'c', ports: [{ containerPort: 1, protocol: 'SCTP' }] },
      ],
      initContainers: [
        { name: 'once', ports: [{ name: 'never', containerPort: 5, protocol: 'TCP' }] },
        { name: 'proxy', restartPolicy: 'Always', ports: [{ name: 'mesh', containerPort: 15_001, protocol: 'TCP' }] },
      ],
    },
    status: { phase: 'Pending', podIP: '' },
  },
  {
    metadata: { name: 'host', namespace: 'kube-system' },
    spec: { nodeName: 'n1', hostNetwork: true },
    status: { phase: 'Running', podIP: '192.0.2.1', podIPs: [{ ip: '192.0.2.1' }, { ip: '2001:db8::1' }] },
  },
  { metadata: { name: 'done', namespace: 'shop' }, spec: {}, status: { phase: 'Succeeded', podIP: '10.0.0.1' } },
  { metadata: { name: 'bad', namespace: 'shop' }, spec: {}, status: { phase: 'Running', podIPs: [{ ip: 'x' }] } },
]

t.test('a list says in both encodings the same', async (t) => {
  const read = readInParts(encodeList(items))
  t.strictSame(read, readJSON(items))
  t.equal(read.objects.length, items.length)
  t.strictSame(read.page, { resourceVersion: '100', next: '3' })
  t.match(read.problems, [
    /shop\/sidecar: metadata.labels.b: "ü" is no valid label value/,
    /shop\/bad: .*podIPs\[0\].ip: "x" is no IP address; what cannot be read of it counts as absent/,
  ])
})

t.test('wherever its bytes are cut', async (t) => {
  const bytes = encodeList(items)
  const whole = readInParts(bytes)
  for (let at = 0; at < bytes.length; at += at < 3000 ? 1 : 97) {
    const { objects, page } = readInParts(bytes, at)
    if (objects.length !== whole.objects.length || page.next !== '3') t.fail(`cut at ${at}`)
  }
  const cuts = fc.array(fc.nat(bytes.length), { maxLength: 60 })
  fc.assert(
    fc.property(cuts, (places) => t.strictSame(readInParts(bytes, ...places), whole)),
    { numRuns: 20 },
  )
})

t.test('the same labels and ports are made once', async (t) => {
  const given: { metadata: { labels: object }; spec: { containers: { ports: object }[] } }[] = []
  const reader = new ProtobufListReader((item, end) =>
    given.push(item.read(pods.wantedMessage!, end) as (typeof given)[number]),
  )
  reader.write(encodeList([pod('a', { app: 'x' }), pod('b', { app: 'x' }), pod('c', { app: 'y' })]))
  reader.end()
  const [a, b, c] = given as [(typeof given)[0], (typeof given)[0], (typeof given)[0]]
  t.equal(a.metadata.labels, b.metadata.labels)
  t.strictSame(c.metadata.labels, { app: 'y' })
  t.equal(a.spec.containers[0]!.ports, c.spec.containers[0]!.ports)
})

t.test('a list that is not whole is none', async (t) => {
  const bytes = encodeList(items.slice(-4))
  for (let length = 0; length < bytes.length - podListEnd.length; length++) {
    try {
      readInParts(bytes.subarray(0, length))
      t.fail(`${length} of ${bytes.length} bytes`)
    } catch (error) {
      if (!(error instanceof InvalidProtobuf)) throw error
    }
  }
  t.throws(() => readInParts(Buffer.from('{"items": []}')), { message: `the answer is no ${PROTOBUF}` })
})

t.test('bytes that were damaged are read, or refused with a reason', async (t) => {
  const bytes = encodeList(items.slice(-5))
  let refused = 0
  const damage = fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.nat(255)), { minLength: 1, maxLength: 5 })
  fc.assert(
    fc.property(damage, (changes) => {
      const damaged = Buffer.from(bytes)
      for (const [at, byte] of changes) damaged[at] = byte
      try {
        readInParts(damaged)
      } catch (error) {
        if (!(error instanceof InvalidProtobuf)) throw error
        refused++
      }
    }),
    { numRuns: 2000 },
  )
  t.ok(refused > 100, `${refused} were refused`)
})

t.test('fields may come in any order and in several places', async (t) => {
  const wanted = message({
    1: { name: 'labels', type: 'alike texts' },
    2: { name: 'name', type: 'text' },
    3: { name: 'items', type: 'alike messages', of: message({ 1: { name: 'n', type: 'number' } }) },
  })
  const entry = (key: string) => Buffer.from([0x0a, 5, 0x0a, 1, key.charCodeAt(0), 0x12, 0])
  const item = (n: number) => Buffer.from([0x1a, 2, 0x08, n])
  const name = Buffer.from([0x12, 1, 0x6e])
  // A number, eight bytes, and four bytes that nobody wants.
  const others = Buffer.from([0x48, 0xff, 0x01, 0x51, 1, 2, 3, 4, 5, 6, 7, 8, 0x5d, 1, 2, 3, 4])
  const bytes = Buffer.concat([entry('a'), item(1), others, entry('b'), entry('c'), name, item(2), item(3)])
  t.strictSame(new ProtobufReader(bytes, 0, new RecentTexts()).read(wanted, bytes.length), {
    labels: { a: '', b: '', c: '' },
    items: [{ n: 1 }, { n: 2 }, { n: 3 }],
    name: 'n',
  })
})

t.test('pods are listed in the server’s own encoding, and followed from there', async (t) => {
  const server = await serve(t)
  server.speaksProtobuf = true
  for (const name of ['a', 'b', 'c', 'd']) server.put(pod(name))
  const { has, objects, source } = await follow(t, server)
  await has('Pod shop/a', 'Pod shop/b', 'Pod shop/c', 'Pod shop/d')
  t.match(objects.get('Pod shop/a'), {
    labels: new Map([['app', 'a']]),
    node: 'n1',
    ports: [{ name: 'http', port: 80 }],
  })
  const lists = server.asked.filter(listsOf('pods'))
  t.equal(lists.length, 2, 'a page each')
  t.ok(lists.every(({ accept }) => accept === `${PROTOBUF}, application/json`))
  t.ok(server.asked.filter(listsOf('nodes')).every(({ accept }) => accept === 'application/json'))
  server.put(pod('b', { app: 'other' }))
  await soon(() => objects.get('Pod shop/b')?.type === 'Workload' && hasApp(objects.get('Pod shop/b'), 'other'))
  t.strictSame(source.health().notes, [])
})

t.test('an answer that is cut off or damaged is no list', async (t) => {
  const server = await serve(t)
  const { isBroken, isWell, has } = await follow(t, server)
  server.speaksProtobuf = true
  server.put(pod('a'))
  server.disturb(
    listsOf('pods'),
    (response) => {
      response.writeHead(200, { 'Content-Type': PROTOBUF })
      response.end(encodeList([pod('a')]).subarray(0, 100))
    },
    3,
  )
  server.compact()
  server.dropConnections()
  server.endWatches('Pod')
  await isBroken(/the API server's answer to .*pods.* cannot be read: /)
  await isWell()
  await has('Pod shop/a')
})

function hasApp(object: unknown, app: string): boolean {
  return (object as { labels: Map<string, string> }).labels.get('app') === app
}
