import type { ShownVerdict } from './text.ts'

/** Never the only sign: the word stands there too. */
export const verdictColors: Readonly<Record<ShownVerdict, string>> = {
  ALLOWED: 'green',
  DENIED: 'red',
  AUDIT: 'yellow',
}
