/** Loads what draws. What it reads of the environment while it is loaded is set first. */
export async function loadScreen(): Promise<typeof import('./show.ts')> {
  // Otherwise React measures every change, and keeps the measurements.
  process.env.NODE_ENV ??= 'production'
  // https://no-color.org; ink knows another variable only.
  if (process.env.NO_COLOR) process.env.FORCE_COLOR = '0'
  return import('./show.ts')
}
