import t from 'tap'
import { parseAddress } from '../../src/engine/address.ts'
import { clusterPolicy, domainName, lintInput, rule } from '../fixtures/lint-input.ts'
import { found } from './findings.ts'

const addresses = [parseAddress('192.0.2.1')!]
const domainNames = [
  { name: 'a.example', addresses },
  { name: 'x.y.b.example', addresses },
  { name: 'gone.example', addresses: [] },
]
const patterns = ['a.example', '*.b.example', '*.example', 'c.example', '*.c.example', '*.a.example', 'gone.example']
const policies = [
  clusterPolicy('p', {
    egress: [
      ...patterns.map((pattern) => rule({ peers: [domainName(pattern)] })),
      rule({ peers: patterns.map(domainName) }),
    ],
  }),
]

t.test('unknown-domain-name', async (t) => {
  t.strictSame(found('unknown-domain-name', lintInput(policies, { domainNames })), [
    'note p egress 3: no address is known of c.example: that matches nothing yet',
    'note p egress 4: no address is known of *.c.example: that matches nothing yet',
    'note p egress 5: no address is known of *.a.example: that matches nothing yet',
    'note p egress 6: no address is known of gone.example: that matches nothing yet',
    'note p egress 7: no address is known of c.example, *.c.example, *.a.example, gone.example: that matches nothing yet',
  ])
  t.strictSame(found('unknown-domain-name', lintInput(policies)), [], 'no names were given at all')
})
