/**
 * Milliseconds that this thread has been at work, from some moment on: what something takes on a core of its own, whatever
 * else the machine does meanwhile. What helper threads of the garbage collector do at the same time is not in it.
 */
export function cpuTimeMs(): number {
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1000
}
