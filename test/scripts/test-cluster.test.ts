import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const folder = fileURLToPath(new URL('../cluster', import.meta.url))

/** Runs a program of test/cluster where there is no Go, nor anything else, and no cluster. */
function runWithout(program: string, ...args: readonly string[]) {
  const env = { PATH: '/nowhere', KNP_CLUSTER: join(t.testdir(), 'none') }
  const argv = ['--no-warnings', join(folder, program), ...args]
  return spawnSync(process.execPath, argv, { env, encoding: 'utf8' })
}

const words =
  /needs Go 1\.\d+\.\d+ or newer, which is not on this machine: it builds the Kubernetes that knp is tested in/

t.test('what needs Go says so by name, and fails', async (t) => {
  for (const program of ['main.ts', 'conformance.ts']) {
    const { status, stderr } = runWithout(program)
    t.equal(status, 1, program)
    t.match(stderr, words, program)
  }
})

t.test('where it is only to run where it can, it says so and ends well', async (t) => {
  const { status, stdout } = runWithout('main.ts', '--where-possible')
  t.equal(status, 0)
  t.match(stdout, words)
})
