/** Waits until it is so, and fails after `timeoutMs`: for what no event tells. Each look takes its time, so no sleep does. */
export async function until(isSo: () => Promise<boolean>, timeoutMs = 5000): Promise<void> {
  const deadline = performance.now() + timeoutMs
  while (!(await isSo())) {
    if (performance.now() > deadline) throw new Error(`it did not come about within ${timeoutMs} ms`)
  }
}
