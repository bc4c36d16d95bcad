/** A clock that goes forward only and is the same in all processes of this machine, in ms. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint() / 1000n) / 1000
}
