import { isMainThread } from 'node:worker_threads'

// Preloaded into a process: what it needs, garbage left out, as a line on stderr now and then.

/** Of the whole process, and of its main thread's heap. */
export interface MemoryReport {
  readonly residentMiB: number
  readonly heapMiB: number
}

const INTERVAL_MS = 10_000
const MIB = 1024 * 1024

function report(): void {
  // There with --expose-gc.
  globalThis.gc?.()
  const { rss, heapUsed } = process.memoryUsage()
  const now: MemoryReport = { residentMiB: Math.round(rss / MIB), heapMiB: Math.round((heapUsed / MIB) * 10) / 10 }
  process.stderr.write(`memory: ${JSON.stringify(now)}\n`)
}

if (isMainThread) setInterval(report, INTERVAL_MS).unref()
