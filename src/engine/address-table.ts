import type { Address } from './address.ts'
import { sharedInt32 } from './int32-list.ts'

/**
 * Address -> number of 0 or more, as open addressing over shared memory. A slot has five words: the address, and the
 * value plus one (0: free). At most half of the slots are taken, so a miss ends soon.
 */
export type AddressTable = Int32Array<SharedArrayBuffer>

const SLOT_WORDS = 5

/** Later entries do not replace earlier ones. */
export function buildAddressTable(entries: readonly (readonly [Address, number])[]): AddressTable {
  let slots = 8
  while (slots < entries.length * 2) slots *= 2
  const table = sharedInt32(slots * SLOT_WORDS)
  for (const [{ w0, w1, w2, w3 }, value] of entries) {
    const at = findSlot(table, w0, w1, w2, w3)
    if (table[at + 4] === 0) table.set([w0, w1, w2, w3, value + 1], at)
  }
  return table
}

/** The address's value, or -1. */
export function lookupAddress(table: AddressTable, address: Address): number {
  return table[findSlot(table, address.w0, address.w1, address.w2, address.w3) + 4]! - 1
}

function findSlot(table: AddressTable, w0: number, w1: number, w2: number, w3: number): number {
  const mask = table.length / SLOT_WORDS - 1
  let hash = Math.imul(
    w3 ^ Math.imul(w2 ^ Math.imul(w1 ^ Math.imul(w0, 0x9e3779b1), 0x9e3779b1), 0x9e3779b1),
    0x9e3779b1,
  )
  hash ^= hash >>> 15
  for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
    const at = slot * SLOT_WORDS
    if (table[at + 4] === 0) return at
    if (table[at + 3] === w3 && table[at + 2] === w2 && table[at + 1] === w1 && table[at] === w0) return at
  }
}
