// Preloaded into each test file (.taprc). The runner has every process that a test starts load its coverage
// instrumentation, which takes as long as the program under test: they start as a user's would instead.
import { createRequire } from 'node:module'

interface ProcessOnSpawn {
  removeAllListeners(): void
}

// The runner's own dependency, and the one hook by which it changes the environment of children.
const runner = createRequire(import.meta.resolve('@tapjs/processinfo'))
const processOnSpawn = runner('process-on-spawn') as ProcessOnSpawn
processOnSpawn.removeAllListeners()
delete process.env.NODE_OPTIONS
