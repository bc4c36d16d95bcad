import { loadAddon } from './load.ts'

/**
 * Gives the memory that the C library has set aside back to the system, in a few milliseconds: what a large source was read
 * through. Nothing where the C library cannot.
 */
export function trimMemory(): void {
  loadAddon().trimMemory()
}
