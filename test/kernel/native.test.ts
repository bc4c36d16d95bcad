import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'

// Each part runs in a network namespace of its own, where `lo` is up and nothing else is.
t.setTimeout(120_000)

const parts = ['queue-conformance', 'queue', 'kept-queue', 'packet-threads', 'nftables', 'conntrack', 'sweep'] as const

const missing = process.getuid?.() === 0 ? undefined : 'needs root, for network namespaces and nftables'

for (const part of parts) {
  t.test(part, { skip: process.env.CI === undefined && missing !== undefined ? missing : false }, async (t) => {
    if (missing !== undefined) return t.fail(missing)
    const namespace = `knpn-${process.pid}-${part}`
    ip('netns', 'add', namespace)
    t.teardown(() => ip('netns', 'del', namespace))
    ip('-n', namespace, 'link', 'set', 'lo', 'up')
    const script = fileURLToPath(new URL(`./children/${part}.ts`, import.meta.url))
    await t.spawn('ip', ['netns', 'exec', namespace, process.execPath, '--no-warnings', script], {}, part)
  })
}

function ip(...args: readonly string[]): void {
  execFileSync('ip', args)
}
