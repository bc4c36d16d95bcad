import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { parseSshConnection } from '../src/ssh-connection.ts'

t.test('what sshd says', async (t) => {
  t.same(parseSshConnection('203.0.113.9 51000 192.0.2.1 22'), { client: '203.0.113.9', server: '192.0.2.1', port: 22 })
  t.same(parseSshConnection('2001:db8::9 51000 2001:db8::1 2222\n'), {
    client: '2001:db8::9',
    server: '2001:db8::1',
    port: 2222,
  })
  for (const text of ['', ' ', '203.0.113.9', '203.0.113.9 51000', '203.0.113.9 51000 192.0.2.1']) {
    t.equal(parseSshConnection(text), undefined, `"${text}" is none`)
  }
})

const modulePath = fileURLToPath(new URL('../src/ssh-connection.ts', import.meta.url))
const ask = `import(${JSON.stringify(modulePath)}).then((module) => console.log(JSON.stringify(module.findSshConnection() ?? null)))`

/** The answer of a process below others, each with its own environment; the first is the outermost. */
function findBelow(...environments: readonly Record<string, string>[]): unknown {
  const commands = environments.map((environment) => [
    'env',
    '-i',
    ...Object.entries(environment).map(([name, value]) => `${name}=${value}`),
  ])
  // The shell stays, because something follows: each environment is one of a process of its own.
  const script = commands.reduceRight(
    (inner, command) => `${command.map(quote).join(' ')} /bin/sh -c ${quote(`${inner}; exit $?`)}`,
    `${quote(process.execPath)} -e ${quote(ask)}`,
  )
  const { stdout, stderr, status } = spawnSync('/bin/sh', ['-c', script], { encoding: 'utf8', env: {} })
  if (status !== 0) throw new Error(stderr)
  return JSON.parse(stdout)
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}

const outer = { SSH_CONNECTION: '203.0.113.9 51000 192.0.2.1 22' }
const inner = { SSH_CONNECTION: '198.51.100.9 51001 192.0.2.1 2222' }

t.test('the connection that a process was started over', async (t) => {
  const found = { client: '203.0.113.9', server: '192.0.2.1', port: 22 }
  t.same(findBelow(outer), found, 'its own environment, or the one around it')
  t.same(findBelow(outer, {}, { SUDO_USER: 'ann' }), found, 'also where sudo took the variable away')
  t.same(findBelow(outer, inner), { ...found, client: '198.51.100.9', port: 2222 }, 'the nearest counts')
  t.same(findBelow(outer, { XSSH_CONNECTION: 'a b c d' }), found, 'and no other variable')
})
