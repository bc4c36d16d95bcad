import t from 'tap'
import { formatListenAddress, parseListenAddress } from '../src/listen-address.ts'

t.test('an address and a port', async (t) => {
  const good: readonly [text: string, host: string, port: number][] = [
    ['127.0.0.1:9080', '127.0.0.1', 9080],
    ['0.0.0.0:1', '0.0.0.0', 1],
    ['[::1]:65535', '::1', 65535],
    ['[::]:80', '::', 80],
  ]
  for (const [text, host, port] of good) {
    t.same(parseListenAddress(text), { host, port }, text)
    t.equal(formatListenAddress({ host, port }), text, 'and back')
  }
  const bad = [
    ...['', 'none', '9080', ':9080', '127.0.0.1', '127.0.0.1:', '127.0.0.1:0', '127.0.0.1:65536', '127.0.0.1:-1'],
    ...[
      '127.0.0.1:9080 ',
      '127.0.0.256:1',
      '127.1:1',
      '::1:9080',
      '[::1]',
      '[::1]:0',
      '[127.0.0.1]:1',
      '[fe80::1%lo]:1',
    ],
    ...['localhost:9080', '*:9080', 'http://127.0.0.1:9080', '127.0.0.1:9080/metrics'],
  ]
  for (const text of bad) t.equal(parseListenAddress(text), undefined, JSON.stringify(text))
})
