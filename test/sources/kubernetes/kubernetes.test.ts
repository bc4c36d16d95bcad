import type { ServerResponse } from 'node:http'
import t from 'tap'
import { type Delta, type Policy, parseBlock, type Workload } from '../../../src/engine/index.ts'
import type { Access } from '../../../src/sources/kubernetes/access.ts'
import { ApiClient } from '../../../src/sources/kubernetes/api-client.ts'
import { KubernetesSource } from '../../../src/sources/kubernetes/kubernetes.ts'
import { type Asked, listsOf, watchesOf } from './api-server.ts'
import { begin, clusterPolicy, follow, namespace, networkPolicy, node, pod, quick, serve, soon } from './follow.ts'

t.test('the first picture is whole, and comes at once', async (t) => {
  const server = await serve(t)
  for (let i = 0; i < 7; i++) server.put(pod(`p${i}`, { app: 'web' }, `10.0.0.${i}`))
  server.put(namespace('shop', { team: 'a' }))
  server.put(node('n1', '192.0.2.1'))
  server.put(networkPolicy('np'))
  server.defineKind('ClusterNetworkPolicy', 'clusternetworkpolicies', 'v1alpha2')
  server.put(clusterPolicy('cnp'))
  const { objects, deltas, source } = await follow(t, server)
  t.equal(deltas.length, 1)
  const pods = Array.from({ length: 7 }, (_, i) => `Pod shop/p${i}`)
  const others = ['ClusterNetworkPolicy /cnp', 'Namespace /shop', 'NetworkPolicy shop/np', 'Node /n1']
  t.same([...objects.keys()].sort(), [...others, ...pods].sort())
  t.match(objects.get('Pod shop/p3'), {
    namespace: 'shop',
    name: 'p3',
    labels: new Map([['app', 'web']]),
    node: 'n1',
    hostNetwork: false,
    addresses: [{ w3: 0x0a000003 }],
    ports: [{ name: 'http', protocol: 6, port: 80 }],
    phase: 'Running',
  })
  t.same(
    (objects.get('Namespace /shop') as { labels?: unknown }).labels,
    new Map([
      ['team', 'a'],
      ['kubernetes.io/metadata.name', 'shop'],
    ]),
  )
  t.match(objects.get('Node /n1'), { addresses: { length: 1 }, labels: new Map([['zone', 'a']]) })
  const pages = server.asked.filter(listsOf('pods'))
  t.equal(pages.length, 3, 'in pages of three')
  t.match(source.health(), { name: 'kubernetes', isCurrent: true, error: undefined, restarts: 0, notes: [] })
})

t.test('what was read before the start comes with it', async (t) => {
  const server = await serve(t)
  server.put(pod('a'))
  const source = new KubernetesSource({}, { timing: quick, readAccess: async () => server.access() })
  const abort = new AbortController()
  source.prepare()
  await soon(() => server.watches('Pod') === 1)
  server.put(pod('b'))
  const deltas: string[] = []
  const started = source.start(({ upserts }) => deltas.push(upserts.map(({ ref }) => ref.name).join()), abort.signal)
  await started
  await soon(() => deltas.join().endsWith('b'))
  const length = deltas.length
  server.put(pod('c'))
  await soon(() => deltas.length > length)
  t.match(deltas.join(' '), /^a(,| )b c$/)
  t.equal(server.asked.filter(listsOf('pods')).length, 1)
  abort.abort()
  await soon(() => server.watches('Pod') === 0)
})

t.test('what goes wrong before the start is told by it', async (t) => {
  const server = await serve(t)
  server.forbidden.add('nodes')
  const source = new KubernetesSource({}, { timing: quick, readAccess: async () => server.access() })
  const abort = new AbortController()
  t.teardown(() => abort.abort())
  source.prepare()
  await soon(() => source.health().error !== undefined)
  await t.rejects(
    source.start(() => {}, abort.signal),
    { code: 'API_REFUSED' },
  )
})

t.test('what a machine of the cluster needs to know: where its pods are, and the API server', async (t) => {
  const server = await serve(t)
  const podCIDRs = ['10.244.1.0/24', 'fd00:1::/64']
  server.put({ ...node('n1', '192.0.2.1'), spec: { podCIDR: podCIDRs[0], podCIDRs, taints: [] } })
  const { objects, source } = await follow(t, server)
  t.match(objects.get('Node /n1'), { podBlocks: podCIDRs.map((text) => parseBlock(text)) })
  const { hostname, port } = new URL(server.url)
  t.same(source.cluster.apiServer(), { host: hostname, port: Number(port) })
  const through = (access: Partial<Access>) =>
    new ApiClient(async () => ({ ...server.access(), ...access }), { ...quick })
  const places: readonly [access: Partial<Access>, host: string, port: number][] = [
    [{ server: 'https://api.example' }, 'api.example', 443],
    [{ server: 'https://[2001:db8::9]:6443' }, '2001:db8::9', 6443],
    [{ proxy: 'http://proxy.example' }, 'proxy.example', 80],
  ]
  for (const [access, host, port] of places) {
    const client = through(access)
    t.equal(client.endpoint, undefined, 'before it is known')
    await client.open('/', AbortSignal.abort()).catch(() => {})
    t.same(client.endpoint, { host, port })
    client.close()
  }
})

t.test('pods of a workload share what they have alike', async (t) => {
  const server = await serve(t)
  server.put(pod('a', { app: 'web' }))
  server.put(pod('b', { app: 'web' }))
  const { objects } = await follow(t, server)
  const [a, b] = ['a', 'b'].map((name) => objects.get(`Pod shop/${name}`) as Workload)
  t.equal(a!.labels, b!.labels)
  t.equal(a!.ports, b!.ports)
})

t.test('only what policies need makes a change', async (t) => {
  const server = await serve(t)
  server.put(pod('a'))
  const { deltas, has } = await follow(t, server)
  const same = pod('a')
  server.put({ ...same, status: { ...(same.status as object), conditions: [{ type: 'Ready' }] } })
  server.put(pod('b'))
  await has('Pod shop/a', 'Pod shop/b')
  t.same(
    deltas.slice(1).flatMap(({ upserts }) => upserts.map(({ ref }) => ref.name)),
    ['b'],
  )
})

t.test('what happens is followed', async (t) => {
  const server = await serve(t)
  server.put(pod('a'))
  const { objects, has, source } = await follow(t, server)
  const beforeMs = Date.now()
  server.put(pod('b'))
  server.put(networkPolicy('np'))
  await has('Pod shop/a', 'Pod shop/b', 'NetworkPolicy shop/np')
  server.put(pod('a', { app: 'other' }))
  await soon(() => (objects.get('Pod shop/a') as Workload).labels.get('app') === 'other')
  server.remove('Pod', 'shop/b')
  server.remove('NetworkPolicy', 'shop/np')
  await has('Pod shop/a')
  server.put(namespace('shop'))
  server.put(node('n2', '192.0.2.2'))
  await has('Pod shop/a', 'Namespace /shop', 'Node /n2')
  const { lastEventAtMs, syncedAtMs, lagMs } = source.health()
  t.ok(lastEventAtMs! >= beforeMs)
  t.ok(syncedAtMs! <= Date.now() && lagMs! >= 0)
})

t.test('what comes and goes within one chunk is gone', async (t) => {
  const server = await serve(t)
  server.put(pod('a'))
  const { has, objects } = await follow(t, server)
  await soon(() => server.watches('Pod') === 1)
  const event = (type: string, name: string, version: number) => {
    const { metadata, ...rest } = pod(name)
    return `${JSON.stringify({ type, object: { ...rest, metadata: { ...metadata, resourceVersion: `${version}` } } })}\n`
  }
  server.writeToWatches(
    'Pod',
    event('ADDED', 'b', 900) +
      event('DELETED', 'b', 901) +
      event('DELETED', 'a', 902) +
      event('ADDED', 'a', 903) +
      event('ADDED', 'c', 904),
  )
  await has('Pod shop/a', 'Pod shop/c')
  t.notOk(objects.has('Pod shop/b'))
})

t.test('answers may be cut anywhere', async (t) => {
  const server = await serve(t)
  server.cut = (text) => Array.from({ length: Math.ceil(text.length / 7) }, (_, i) => text.subarray(i * 7, i * 7 + 7))
  server.defineKind('ClusterNetworkPolicy', 'clusternetworkpolicies', 'v1alpha2')
  server.put(pod('ä'.normalize('NFD').replace(/[^a-z]/g, ''), { app: 'web' }))
  const { has } = await follow(t, server)
  await has('Pod shop/a')
  server.put(pod('b'))
  server.put(clusterPolicy('cnp'))
  await has('Pod shop/a', 'Pod shop/b', 'ClusterNetworkPolicy /cnp')
})

t.test('a watch that ends with its time goes on where it was', async (t) => {
  const server = await serve(t)
  const { has, source } = await follow(t, server)
  server.put(pod('a'))
  await has('Pod shop/a')
  await soon(() => server.watches('Pod') === 1)
  server.endWatches('Pod')
  server.put(pod('b'))
  await has('Pod shop/a', 'Pod shop/b')
  t.equal(server.asked.filter(listsOf('pods')).length, 1, 'without a list')
  t.match(source.health(), { isCurrent: true, restarts: 0 })
})

t.test('a bookmark is where the watch goes on', async (t) => {
  const server = await serve(t)
  await follow(t, server)
  await soon(() => server.watches('Pod') === 1)
  server.bookmark('Pod')
  server.compact()
  const lists = server.asked.filter(listsOf('pods')).length
  const next = server.nextAsked(watchesOf('pods'))
  server.endWatches('Pod')
  t.equal((await next).query.get('resourceVersion'), '101')
  await soon(() => server.watches('Pod') === 1)
  t.equal(server.asked.filter(listsOf('pods')).length, lists)
})

t.test('connections are made anew when that is asked for, and nothing is missed', async (t) => {
  const server = await serve(t)
  server.put(pod('a'))
  const { source, has, healths } = await follow(t, server)
  await soon(() => server.watches('Pod') === 1)
  const lists = server.asked.filter(listsOf('pods')).length
  const next = server.nextAsked(watchesOf('pods'))
  source.cluster.connectAnew()
  server.put(pod('b'))
  await next
  await has('Pod shop/a', 'Pod shop/b')
  t.equal(server.asked.filter(listsOf('pods')).length, lists, 'the watch goes on where it was')
  t.same(healths, [], 'that is no trouble')
})

t.test('after 410 a list tells what was missed, and nothing else changes', async (t) => {
  for (const way of ['event', 'status'] as const) {
    const server = await serve(t)
    for (const name of ['a', 'b', 'c', 'd', 'e']) server.put(pod(name))
    const { deltas, has, source, healths } = await follow(t, server)
    await soon(() => server.watches('Pod') === 1)
    server.dropConnections()
    server.put(pod('a', { app: 'new' }))
    server.put(pod('f'))
    server.remove('Pod', 'shop/b')
    server.compact()
    if (way === 'status') server.refuse(watchesOf('pods'), 410)
    await has(...['a', 'c', 'd', 'e', 'f'].map((name) => `Pod shop/${name}`))
    const [delta, ...more] = deltas.slice(1)
    t.same(delta!.upserts.map(({ ref }) => ref.name).sort(), ['a', 'f'], way)
    t.same(delta!.deletes, ['Pod shop/b'])
    t.same(more, [])
    await soon(() => server.watches('Pod') === 1)
    t.ok(source.health().restarts! > 0)
    t.same(healths, [], 'that is no trouble')
  }
})

t.test('a list whose pages are forgotten is begun again, in one piece', async (t) => {
  const server = await serve(t)
  for (let i = 0; i < 7; i++) server.put(pod(`p${i}`))
  server.disturb(listsOf('pods'), (response, asked) => {
    server.serve(response, asked)
    server.put(pod('late'))
    server.remove('Pod', 'shop/p0')
    server.compact()
  })
  const { objects } = await follow(t, server)
  t.same(
    [...objects.keys()].sort(),
    ['late', 'p1', 'p2', 'p3', 'p4', 'p5', 'p6'].map((name) => `Pod shop/${name}`),
  )
  t.equal(server.asked.filter(listsOf('pods')).at(-1)!.query.get('limit'), null)
})

t.test('the next page is asked for while one is read', async (t) => {
  const server = await serve(t)
  for (let i = 0; i < 7; i++) server.put(pod(`p${i}`))
  const names = Array.from({ length: 7 }, (_, i) => `Pod shop/p${i}`)
  const isNextPage = ({ path, query }: Asked) => path.endsWith('/pods') && query.has('continue')
  /** Goes on when the page after it is asked for. */
  const begin = (goOn: (response: ServerResponse) => void) => {
    server.disturb(listsOf('pods'), (response) => {
      response.write('{"metadata":{"resourceVersion":"107","continue":"107.3"},"items":[')
      void server.nextAsked(isNextPage).then(() => goOn(response))
    })
  }
  begin((response) => response.end(`${JSON.stringify([pod('p0'), pod('p1'), pod('p2')]).slice(1)}}`))
  const whole = await follow(t, server)
  await whole.has(...names)
  t.equal(server.asked.filter(listsOf('pods')).length, 3, 'each page was asked for once')
  whole.abort.abort()

  begin((response) => response.destroy())
  const again = await follow(t, server)
  await again.has(...names)
})

t.test('a list that breaks off loses nothing', async (t) => {
  const server = await serve(t)
  for (let i = 0; i < 7; i++) server.put(pod(`p${i}`))
  const { has, objects } = await follow(t, server)
  await soon(() => server.watches('Pod') === 1)
  // The second list brings a change, and breaks off; the third brings it no more.
  server.disturb(listsOf('pods'), (response) => {
    const { metadata, ...rest } = pod('p0', { app: 'new' })
    const items = JSON.stringify([{ ...rest, metadata: { ...metadata, resourceVersion: '999' } }, pod('p1')])
    response.write(`{"kind":"PodList","metadata":{"resourceVersion":"5000"},"items":${items.slice(0, -9)}`)
    // When what was written has arrived.
    setTimeout(() => response.destroy(), 100)
  })
  server.failWatches('Pod', 410)
  server.put(pod('p0', { app: 'new' }))
  server.compact()
  await soon(() => (objects.get('Pod shop/p0') as Workload).labels.get('app') === 'new')
  await has(...Array.from({ length: 7 }, (_, i) => `Pod shop/p${i}`))
})

t.test('an API server that is away keeps the last picture', async (t) => {
  const server = await serve(t)
  server.put(pod('a'))
  const { source, objects, has, isBroken, isWell, healths, deltas } = await follow(t, server)
  await soon(() => server.watches('Pod') === 1)
  await server.down()
  await isBroken(
    /^pods, namespaces, nodes, .*API server https:\/\/127\.0\.0\.1:\d+ cannot be reached: connect ECONNREFUSED/,
  )
  t.match(source.health(), { isCurrent: false, brokenSinceMs: Number })
  t.same([...objects.keys()], ['Pod shop/a'])
  server.remove('Pod', 'shop/a')
  server.put(pod('b'))
  await server.up()
  await has('Pod shop/b')
  await isWell()
  t.equal(source.health().brokenSinceMs, undefined)
  t.equal(healths.at(-1)!.isCurrent, true, 'and that is told')
  const texts = healths.map(({ error }) => error?.replace(/^[^:]*: /, ''))
  t.equal(texts.length, new Set(texts).size, 'each trouble is told once, not for each resource')
  t.ok(deltas.every(({ upserts, deletes }) => upserts.length + deletes.length > 0))
})

t.test('trouble of the API server passes', async (t) => {
  for (const status of [500, 503, 429]) {
    const server = await serve(t)
    server.put(pod('a'))
    const { has, isBroken, isWell } = await follow(t, server)
    await soon(() => server.watches('Pod') === 1)
    server.refuse(watchesOf('pods'), status, { times: Number.POSITIVE_INFINITY })
    server.failWatches('Pod', status)
    await isBroken(new RegExp(`^pods: API server .* answers ${status}: so it was asked$`))
    server.put(pod('b'))
    server.undisturb()
    await has('Pod shop/a', 'Pod shop/b')
    await isWell()
  }
})

t.test('Retry-After is waited for', async (t) => {
  const server = await serve(t)
  server.refuse(listsOf('pods'), 429, { headers: { 'Retry-After': '1' } })
  const beganMs = performance.now()
  await follow(t, server)
  t.ok(performance.now() - beganMs >= 1000)
})

t.test('a silent connection is given up', async (t) => {
  const server = await serve(t)
  server.put(pod('a'))
  let silent = 0
  server.disturb(watchesOf('pods'), (response) => {
    silent++
    response.writeHead(200)
    response.flushHeaders()
  })
  const { has, source } = await follow(t, server, { silenceMs: 150 })
  server.put(pod('b'))
  await has('Pod shop/a', 'Pod shop/b')
  t.equal(silent, 1)
  t.ok(source.health().restarts! > 0)
})

t.test('an API server that takes a question and says nothing is given up', async (t) => {
  const server = await serve(t)
  server.disturb(watchesOf('pods'), () => {}, 2)
  const { has, isBroken, isWell } = await follow(t, server, { answerMs: 150 })
  await isBroken(/^pods: API server .* has been silent for 0\.15 s$/)
  server.put(pod('b'))
  await has('Pod shop/b')
  await isWell()
})

t.test('watches that end at once are not asked for without end', async (t) => {
  const server = await serve(t)
  server.disturb(watchesOf('pods'), (response) => response.writeHead(200).end(), Number.POSITIVE_INFINITY)
  const { isBroken } = await follow(t, server, { firstPauseMs: 20, longestPauseMs: 1000 })
  await isBroken(/^pods: the API server ends watches of pods at once$/)
  t.ok(server.asked.filter(watchesOf('pods')).length < 5)
})

t.test('what cannot be read on a watch is listed', async (t) => {
  const server = await serve(t)
  server.put(pod('a'))
  const { has, isWell } = await follow(t, server)
  for (const text of ['{"type":"ADDED","obj\n', '{"type":"RENAMED","object":{}}\n', '\n\n\ntrash\n']) {
    await soon(() => server.watches('Pod') === 1)
    const list = server.nextAsked(listsOf('pods'))
    server.writeToWatches('Pod', text)
    await list
    await isWell()
  }
  await has('Pod shop/a')
})

t.test('rights that are missing at the start', async (t) => {
  const server = await serve(t)
  server.forbidden.add('nodes')
  server.put(pod('a'))
  const { started, deltas, has, isWell } = begin(t, async () => server.access())
  await t.rejects(started, {
    code: 'API_REFUSED',
    message:
      /^nodes: forbidden: API server .* answers 403: nodes is forbidden: User "reader" cannot list resource; grant list and watch on nodes$/,
  })
  t.same(deltas, [], 'nothing is told of half a picture')
  server.forbidden.clear()
  await has('Pod shop/a')
  await isWell()
  t.equal(deltas.length, 1)
})

t.test('rights that are taken away and given back', async (t) => {
  const server = await serve(t)
  server.put(pod('a'))
  const { has, isBroken, isWell, objects } = await follow(t, server)
  await soon(() => server.watches('Pod') === 1)
  server.forbidden.add('pods')
  server.endWatches('Pod')
  await isBroken(/^pods: forbidden: .*; grant list and watch on pods$/)
  t.same([...objects.keys()], ['Pod shop/a'])
  server.put(pod('b'))
  server.forbidden.clear()
  await has('Pod shop/a', 'Pod shop/b')
  await isWell()
})

t.test('an API server that is away at the start is waited for, but not for ever', async (t) => {
  const server = await serve(t)
  const access = server.access()
  await server.down()
  const { started, has, deltas } = begin(t, async () => access, { firstPictureMs: 100 })
  await t.rejects(started, { code: 'UNREACHABLE', message: /cannot be reached: connect ECONNREFUSED/ })
  server.put(pod('a'))
  await server.up()
  await has('Pod shop/a')
  t.equal(deltas.length, 1, 'the first picture comes whole')

  const late = begin(t, async () => access)
  await server.down()
  await late.isBroken(/ECONNREFUSED/)
  await server.up()
  await late.started
})

t.test('kinds of policies that come and go', async (t) => {
  const server = await serve(t)
  server.put(pod('a'))
  const { has, isWell, objects, source, healths } = await follow(t, server)
  server.defineKind('ClusterNetworkPolicy', 'clusternetworkpolicies', 'v1alpha2')
  server.put(clusterPolicy('cnp'))
  await has('Pod shop/a', 'ClusterNetworkPolicy /cnp')
  server.put(clusterPolicy('cnp2'))
  await has('Pod shop/a', 'ClusterNetworkPolicy /cnp', 'ClusterNetworkPolicy /cnp2')

  server.defineKind('ClusterNetworkPolicy', 'clusternetworkpolicies', 'v1beta1')
  const moved = await server.nextAsked(({ path }) => path.endsWith('v1beta1/clusternetworkpolicies'))
  t.ok(moved)
  server.removeKind('ClusterNetworkPolicy', 'v1alpha2')
  server.put(clusterPolicy('cnp', 'Accept'))
  const actionOf = () => (objects.get('ClusterNetworkPolicy /cnp') as Policy).ingress![0]!.action
  await soon(() => actionOf() === 'Accept')
  t.equal(objects.size, 3)

  server.removeKind('ClusterNetworkPolicy')
  await has('Pod shop/a')
  await isWell()
  t.same(
    healths.filter(({ error }) => /clusternetworkpolicies/.test(error ?? '')),
    [],
    'that is no trouble',
  )
  t.same(source.health().notes, [])
})

t.test('a kind that is not named once is not gone', async (t) => {
  const server = await serve(t)
  server.defineKind('ClusterNetworkPolicy', 'clusternetworkpolicies', 'v1alpha2')
  server.put(clusterPolicy('cnp'))
  const { deltas, objects } = await follow(t, server)
  const group = ({ path }: { path: string }) => path === '/apis/policy.networking.k8s.io'
  server.refuse(group, 404)
  for (let i = 0; i < 4; i++) await server.nextAsked(group)
  t.same([...objects.keys()], ['ClusterNetworkPolicy /cnp'])
  t.equal(deltas.length, 1)
})

t.test('a kind that is served in no version that is known fails closed', async (t) => {
  const server = await serve(t)
  server.defineKind('ClusterNetworkPolicy', 'clusternetworkpolicies', 'v9')
  server.put(clusterPolicy('cnp'))
  const { objects, source } = await follow(t, server)
  t.match(objects.get('ClusterNetworkPolicy /cnp'), { ingress: [{ action: 'Deny', peers: undefined }] })
  t.match(source.health().notes, [
    /ClusterNetworkPolicy cnp: apiVersion: "policy\.networking\.k8s\.io\/v9" is no known version/,
  ])
})

t.test('discovery that fails keeps what is followed', async (t) => {
  const server = await serve(t)
  server.defineKind('ClusterNetworkPolicy', 'clusternetworkpolicies', 'v1alpha2')
  server.put(clusterPolicy('cnp'))
  const { isBroken, isWell, objects } = await follow(t, server)
  server.refuse(({ path }) => path.startsWith('/apis/policy'), 503, { times: Number.POSITIVE_INFINITY })
  await isBroken(/discovery of policies: .* 503/)
  t.ok(objects.has('ClusterNetworkPolicy /cnp'))
  server.undisturb()
  await isWell()
})

t.test('policies that cannot be understood', async (t) => {
  const server = await serve(t)
  server.put(networkPolicy('np', { podSelector: {}, ingress: [{}] }))
  const { objects, source, has } = await follow(t, server)
  const policy = (name: string) => objects.get(`NetworkPolicy shop/${name}`) as Policy
  server.put(networkPolicy('np', { podSelector: {}, ingress: [{ from: [{}] }] }))
  await soon(() => source.health().notes.length > 0)
  t.match(source.health().notes, [
    /^NetworkPolicy shop\/np: spec\.ingress\[0\].*; its last good version stays in force$/,
  ])
  t.match(policy('np').ingress, [{ action: 'Accept' }])
  t.ok(source.health().isCurrent)

  server.put(networkPolicy('new', { podSelector: {}, ingress: [{ from: [{}] }] }))
  await has('NetworkPolicy shop/np', 'NetworkPolicy shop/new')
  t.same(policy('new').ingress, [], 'one that never could be isolates what it selects')
  t.equal(source.health().notes.length, 2)
  server.put(networkPolicy('new', { podSelector: {}, ingress: [{ from: [{}, {}] }] }))
  await soon(() => source.health().notes.some((note) => /isolates/.test(note)))
  t.same(policy('new').ingress, [], 'and what was made of it is no good version')
  t.notMatch(source.health().notes[1], /last good/)

  server.put(networkPolicy('np', { podSelector: {} }))
  await soon(() => source.health().notes.length === 1)
  t.same(policy('np').ingress, [])
  server.remove('NetworkPolicy', 'shop/new')
  await has('NetworkPolicy shop/np')
  t.same(source.health().notes, [])
})

t.test('pods that cannot be understood', async (t) => {
  const server = await serve(t)
  const broken = (name: string, labels: Record<string, string>) => {
    const { status, ...rest } = pod(name, labels)
    return { ...rest, status: { ...(status as object), podIPs: [{ ip: 'x' }, { ip: '10.0.0.9' }] } } as ReturnType<
      typeof pod
    >
  }
  server.put(pod('a'))
  const { objects, source, has } = await follow(t, server)
  server.put(broken('a', { app: 'other' }))
  await soon(() => source.health().notes.length === 1)
  t.match(source.health().notes, [/^Pod shop\/a: status\.podIPs\[0\]\.ip: "x" is no IP address; its last good version/])
  t.equal((objects.get('Pod shop/a') as Workload).labels.get('app'), 'a')
  server.put(broken('b', { app: 'b', '-': 'x' }))
  await has('Pod shop/a', 'Pod shop/b')
  t.match(objects.get('Pod shop/b'), { labels: new Map([['app', 'b']]), addresses: [{ w3: 0x0a000009 }] })
  t.match(source.health().notes[1], /what cannot be read of it counts as absent$/)
})

t.test('nothing is told after the end', async (t) => {
  const server = await serve(t)
  server.put(pod('a'))
  const { abort, deltas } = await follow(t, server)
  await soon(() => server.watches('Pod') === 1)
  abort.abort()
  await soon(() => server.watches('Pod') === 0)
  server.put(pod('b'))
  const asked = server.asked.length
  await new Promise((resolve) => setTimeout(resolve, 100))
  t.equal(deltas.length, 1)
  t.equal(server.asked.length, asked)
})

t.test('whoever prepares is told ahead: all but pods first, then pods as they are read', async (t) => {
  const server = await serve(t)
  for (const name of ['a', 'b', 'c', 'd']) server.put(pod(name))
  const source = new KubernetesSource({}, { timing: quick, readAccess: async () => server.access() })
  const abort = new AbortController()
  t.teardown(() => abort.abort())
  const ahead: string[] = []
  let whole = ''
  const namesOf = ({ upserts }: Delta) => upserts.map(({ ref }) => `${ref.kind} ${ref.name}`).sort()
  const onPart = (part: Delta) => ahead.push(...namesOf(part))
  await source.start((delta) => (whole = namesOf(delta).join()), abort.signal, onPart)
  t.equal(ahead.toSorted().join(), whole, 'the first picture has them all the same')
  const [first = -1] = ahead.flatMap((name, i) => (name.startsWith('Pod') ? [i] : []))
  t.notOk(ahead.slice(first).some((name) => !name.startsWith('Pod')))
  const told = ahead.length
  server.put(pod('e'))
  await soon(() => whole === 'Pod e')
  t.equal(ahead.length, told, 'nothing is ahead of what changes')
})
