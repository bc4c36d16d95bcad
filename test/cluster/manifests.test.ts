import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { openCluster } from './cluster.ts'

// What the API server says of the project's manifests, and of the chart that they come from, when nothing is to be changed.

const packaging = fileURLToPath(new URL('../../packaging/kubernetes', import.meta.url))
const cluster = await openCluster()
const kinds = ['clusterrole', 'clusterrolebinding', 'configmap', 'daemonset', 'serviceaccount']

/** Every field is known, every object would be accepted, and there is nothing to warn of. */
async function accepts(t: Test, manifests: string): Promise<void> {
  const dryRun = ['apply', '--dry-run=server', '--validate=strict', '-f', '-']
  const { code, stdout, stderr } = await cluster.attemptKubectl(dryRun, { input: manifests })
  t.equal(code, 0, stderr)
  t.equal(stderr, '')
  const lines = stdout.trim().split('\n')
  for (const line of lines) t.match(line, /(created|configured|unchanged) \(server dry run\)$/)
  const told = new Set(lines.map((line) => line.split(/[./]/)[0]))
  t.strictSame([...told].sort(), kinds)
}

t.test('knp.yaml is accepted', async (t) => {
  await accepts(t, readFileSync(join(packaging, 'knp.yaml'), 'utf8'))
})

t.test('a field that does not exist is not: the test can fail', async (t) => {
  const wrong = readFileSync(join(packaging, 'knp.yaml'), 'utf8').replace('hostNetwork:', 'hostNetworking:')
  const dryRun = ['apply', '--dry-run=server', '--validate=strict', '-f', '-']
  const { code, stderr } = await cluster.attemptKubectl(dryRun, { input: wrong })
  t.not(code, 0)
  t.match(stderr, /unknown field "spec.template.spec.hostNetworking"/)
})

/** Not a skip where helm is not there: in CI that would be a failure, and nothing of knp depends on helm. */
if (spawnSync('helm', ['version', '--short']).status === 0) {
  const settings = [
    [],
    ['--set', 'apiServer.host=api.example,config.onFailure=closed,config.queue.count=2,priorityClassName='],
    ['--set', 'config.mode=audit,podAnnotations.a=b,podLabels.c=d,resources.limits.memory=1Gi,image.tag=1.2'],
    ['--set-json', 'policies={"deny.yaml":"{}"}', '--set-json', 'tolerations=[{"key":"a","operator":"Exists"}]'],
  ]
  for (const args of settings) {
    t.test(`the chart is accepted with ${args.join(' ') || 'its own values'}`, async (t) => {
      const template = [
        'template',
        'knp',
        join(packaging, 'chart'),
        '--namespace',
        'kube-system',
        '--kube-version',
        '1.30.0',
        ...args,
      ]
      const { status, stdout, stderr } = spawnSync('helm', template, { encoding: 'utf8' })
      t.equal(status, 0, stderr)
      await accepts(t, stdout)
    })
  }
}
