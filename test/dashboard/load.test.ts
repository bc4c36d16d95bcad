import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import t from 'tap'

const script = `
  import { registerHooks } from 'node:module'
  const loaded = new Set()
  registerHooks({
    resolve(name, context, next) {
      if (['ink', 'react'].includes(name)) loaded.add(name)
      return next(name, context)
    },
  })
  for (const module of process.argv.slice(1)) await import(module)
  console.log([...loaded].sort().join(' '))`

async function loadedBy(...modules: readonly string[]): Promise<string> {
  const paths = modules.map((module) => new URL(module, import.meta.url).href)
  const argv = ['--input-type=module', '-e', script, ...paths]
  return (await promisify(execFile)(process.execPath, argv)).stdout.trim()
}

t.test('what draws is loaded only where something is drawn', async (t) => {
  t.equal(await loadedBy('../../src/commands/dashboard.ts', '../../src/commands/run.ts'), '')
  t.equal(await loadedBy('../../src/dashboard/show.ts'), 'ink react', 'the control: this would be seen')
})
