import type { Stream } from '../../src/lab/agent.ts'

/** What comes every 20 ms, and has not come for so long, does not come. */
const QUIET_MS = 400

/** What streams do now, one word where it is the same. */
export async function now(flows: readonly Stream[]): Promise<string> {
  const words = flows.map(async (stream) => {
    const isQuiet = (await stream.quiet(QUIET_MS, 3 * QUIET_MS)) && !(await stream.more(1, QUIET_MS))
    return isQuiet ? 'nothing' : (await stream.more(3, 5000)) ? 'flows' : 'nothing'
  })
  return [...new Set(await Promise.all(words))].join()
}
