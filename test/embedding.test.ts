import { execFile } from 'node:child_process'
import { chmod, cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { buildKnp } from './fixtures/knp.ts'

const root = fileURLToPath(new URL('..', import.meta.url))

t.before(buildKnp)

/** An empty folder into which the package was put as it is published, but without addons and dependencies. */
async function project(test: Test): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'knp-embedding-'))
  test.teardown(() => rm(path, { recursive: true, force: true }))
  const home = join(path, 'node_modules/knp')
  await mkdir(home, { recursive: true })
  await cp(join(root, 'package.json'), join(home, 'package.json'))
  await cp(join(root, 'dist'), join(home, 'dist'), { recursive: true })
  await writeFile(join(path, 'package.json'), '{"type": "module"}')
  await mkdir(join(path, 'bin'))
  await writeFile(join(path, 'bin/knp'), `#!/bin/sh\nexec '${process.execPath}' '${root}bin/run.js' "$@"\n`)
  await chmod(join(path, 'bin/knp'), 0o755)
  return path
}

/** What a command line prints, on both streams. */
function shell(folder: string, command: string): Promise<string> {
  const env = { PATH: `${folder}/bin:${process.env.PATH}`, HOME: folder }
  return new Promise((resolve) => {
    execFile('/bin/sh', ['-c', `${command} 2>&1`], { cwd: folder, env }, (_error, stdout) => resolve(stdout))
  })
}

/** Says what modules a program resolves. */
const watch = `
import { registerHooks } from 'node:module'
const seen = []
registerHooks({
  resolve(specifier, context, next) {
    const resolved = next(specifier, context)
    seen.push([context.parentURL, resolved.url])
    return resolved
  },
})
process.on('exit', () => process._rawDebug(JSON.stringify(seen)))
`

const program = `
import { adminTier, ANY_HOOK, baselineTier, Compiler, explain, networkPolicies, parseAddress, parseQuestion, readObject } from 'knp/engine'
const pod = (name, podIP) => ({ apiVersion: 'v1', kind: 'Pod', metadata: { name, labels: { app: name } }, status: { podIP, phase: 'Running' } })
const objects = [
  pod('web', '10.0.0.1'),
  pod('db', '10.0.0.2'),
  { apiVersion: 'v1', kind: 'Service', metadata: { name: 'db' } },
  {
    apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { name: 'db' },
    spec: { podSelector: { matchLabels: { app: 'db' } }, ingress: [{ ports: [{ port: 5432 }] }] },
  },
]
const compiler = new Compiler([adminTier, networkPolicies, baselineTier])
const compiled = compiler.update({ upserts: objects.flatMap((each) => readObject(each) ?? []), deletes: [] })
for (const port of [5432, 22]) {
  const packet = {
    family: 4, protocol: 6, icmpType: 0, icmpCode: 0, tcpFlags: 2,
    source: { ...parseAddress('10.0.0.1'), port: 0 }, destination: { ...parseAddress('10.0.0.2'), port },
  }
  const { verdict, decidedBy } = explain(parseQuestion('default/web', 'default/db:' + port), compiler.snapshot(), compiled)
  console.log(port, compiled.engine.decide(packet, ANY_HOOK), verdict, decidedBy.policy.name)
}
`

t.test('the engine works where there is nothing but the package, and loads nothing but itself', async (t) => {
  const path = await project(t)
  await writeFile(join(path, 'watch.js'), watch)
  await writeFile(join(path, 'program.js'), program)
  const [first, second, modules] = (await shell(path, 'node --import ./watch.js program.js')).split('\n')
  t.equal(first, '5432 accept allow db')
  t.equal(second, '22 deny deny db')
  const resolved = JSON.parse(modules!) as [parent: string | undefined, url: string][]
  const home = '/node_modules/knp/dist/'
  const own = resolved.filter(([parent]) => parent?.includes(home)).map(([, url]) => url)
  t.ok(own.length > 30, `${own.length} imports seen`)
  t.same(
    own.filter((url) => !url.includes(`${home}engine/`)),
    [],
  )
})

t.test('TypeScript finds the types', async (t) => {
  const path = await project(t)
  const source = `
import { identityTable, SELECTS_INGRESS, type WholeKind } from 'knp/engine'
export const kind: WholeKind = {
  name: 'x',
  compile: (_, identities) => ({ selected: identityTable(identities, ({ namespace }) => (namespace === 'a' ? SELECTS_INGRESS : 0)) }),
  evaluate: () => ({ evaluateEgress: () => 'next', evaluateIngress: ({ packet }, because) => {
    because?.push({ reason: 'x' })
    return packet.protocol === 6 ? 'deny' : 'next'
  } }),
}
`
  await writeFile(join(path, 'kind.ts'), source)
  const compilerOptions = { strict: true, noEmit: true, types: [], module: 'nodenext', target: 'es2024' }
  await writeFile(join(path, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['kind.ts'] }))
  const check = `'${root}node_modules/.bin/tsc'`
  t.equal(await shell(path, check), '')
  await writeFile(join(path, 'kind.ts'), source.replace("'deny'", "'allow'"))
  t.match(await shell(path, check), /"allow"/, 'a word that is no verdict is found')
})

t.test('docs/embedding.md does what it says', async (t) => {
  const path = await project(t)
  const text = await readFile(join(root, 'docs/embedding.md'), 'utf8')
  const blocks = [...text.matchAll(/^```(\w+)\n(.*?)^```$/gms)].map(([, kind, body]) => ({ kind: kind!, body: body! }))
  const sessions: string[] = []
  for (const { kind, body } of blocks) {
    const [, name] = /^(?:\/\/|#) (\S+)\n/.exec(body) ?? []
    if (kind === 'console') sessions.push(body)
    else if (name) await writeFile(join(path, name), body, { mode: 0o644 })
    else t.equal(kind, 'sh', `every block but those of the shell has a name: ${body}`)
  }
  t.equal(sessions.length, 4)
  for (const session of sessions) {
    const [, command, output] = /^\$ ([^\n]*)\n(.*)$/s.exec(session)!
    t.equal(await shell(path, command!), output, command!)
  }
})
