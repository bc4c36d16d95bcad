/** Now, in ms since 1970: goes forward only, and is the same in all threads. */
export function clockMs(): number {
  return performance.timeOrigin + performance.now()
}
