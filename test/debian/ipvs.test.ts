import t from 'tap'
import { networkPolicy, Product } from '../kernel/product.ts'
import { counts, db, listen, more, outcome, site } from './site.ts'

const virtual = ['10.77.0.10', 'fd77::10'] as const
/** Port of the virtual service and of the pod behind it; the pod listens on no other. */
const services = [
  { port: 80, target: 8080 },
  { port: 81, target: 8081 },
] as const
const hooks = ['prerouting', 'input', 'forward', 'output', 'postrouting'] as const

t.test('IPVS in the router, with a pod as its real server', async (t) => {
  const { network, folder, near, far } = await site(t)
  const { router } = network
  const run = async (argv: readonly string[], input = '') => {
    const { code, stdout, stderr } = await network.exec(router, argv, { input })
    if (code !== 0) throw new Error(`${argv.join(' ')}: ${stderr}`)
    return stdout
  }
  await listen(far, db, [8080, 8081])
  const bracketed = (address: string) => (address.includes(':') ? `[${address}]` : address)
  const lines = virtual.flatMap((address, i) =>
    services.flatMap(({ port, target }) =>
      ['-t', '-u'].flatMap((kind) => [
        `-A ${kind} ${bracketed(address)}:${port} -s rr`,
        `-a ${kind} ${bracketed(address)}:${port} -r ${bracketed(db[i]!)}:${target} -m`,
      ]),
    ),
  )
  for (const address of virtual) await run(['ip', 'address', 'add', address, 'dev', 'lo'])
  await run(['ipvsadm', '-R'], `${lines.join('\n')}\n`)
  await run(
    ['nft', '-f', '-'],
    `table inet where {
      ${hooks
        .map(
          (hook) => `
            counter to_service_${hook} { }
            counter to_pod_${hook} { }
            chain ${hook} {
              type filter hook ${hook} priority -5; policy accept
              th dport { 80, 81 } counter name to_service_${hook}
              th dport { 8080, 8081 } counter name to_pod_${hook}
            }`,
        )
        .join('')}
    }`,
  )
  /** At which hooks packets to the service and to the pod passed since the last call. */
  const passed = async () => {
    const listed: { nftables: { counter?: { name: string; packets: number } }[] } = JSON.parse(
      await run(['nft', '-j', 'reset', 'counters', 'table', 'inet', 'where']),
    )
    return listed.nftables.flatMap(({ counter }) => (counter && counter.packets > 0 ? [counter.name] : [])).sort()
  }
  const reach = async (port: number, expected: 'passes' | 'timeout') => {
    const flows = virtual.flatMap((address) =>
      (['tcp', 'udp'] as const).map((protocol) => outcome(near, protocol, address, port, expected)),
    )
    return [...new Set(await Promise.all(flows))].join()
  }

  t.test('without the firewall: in by input, out by output, never through forward', async (t) => {
    t.equal(await reach(80, 'passes'), 'passes')
    t.same(await passed(), ['to_pod_output', 'to_pod_postrouting', 'to_service_input', 'to_service_prerouting'])
  })

  const ports = [{ port: 8080 }, { protocol: 'UDP', port: 8080 }]
  const isDb = { podSelector: { matchLabels: { app: 'db' } } }
  const cases = [
    { name: 'ingress of the pod behind the service', spec: { ...isDb, ingress: [{ ports }] } },
    {
      name: 'egress of the client',
      spec: { podSelector: { matchLabels: { app: 'web' } }, policyTypes: ['Egress'], egress: [{ to: [isDb], ports }] },
    },
  ]
  await folder.write('policy.yaml', [networkPolicy('first', { ...isDb, ingress: [{}] })])
  const product = await Product.start(network, folder)

  for (const { name, spec } of cases) {
    t.test(`${name}: judged by the pod's address and port`, async (t) => {
      await product.change(() => folder.write('policy.yaml', [networkPolicy('tested', spec)]))
      // kube-proxy sets it to 1; the kernel's default is 0, and then each packet of a connection is judged.
      for (const conntrack of [1, 0] as const) {
        await run(['sysctl', '-qw', `net.ipv4.vs.conntrack=${conntrack}`])
        const setting = `net.ipv4.vs.conntrack=${conntrack}`
        const before = await counts(product)
        t.equal(await reach(80, 'passes'), 'passes', `${setting}: port 8080 of the pod`)
        const between = await counts(product)
        if (conntrack === 1) t.same(between, more(before, 4, 0), 'one packet of each connection was queued')
        else t.ok(between.allowed > before.allowed)
        t.equal(between.denied, before.denied)
        await passed()
        t.equal(await reach(81, 'timeout'), 'timeout', `${setting}: port 8081 of the pod`)
        t.same(await counts(product), more(between, 0, 4), 'one packet of each connection was queued')
        t.same(await passed(), ['to_pod_output', 'to_service_input', 'to_service_prerouting'], 'none of them left')
      }
    })
  }
})
