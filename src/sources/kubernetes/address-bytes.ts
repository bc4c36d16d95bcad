import { MAPPED_WORD, parseAddress } from '../../engine/address.ts'

const DOT = 0x2e
const COLON = 0x3a
const ZERO = 0x30
const GROUPS = 8
const LONGEST_GROUP = 4

/** Of the IPv6 address that is being read. */
const groups = new Int32Array(GROUPS)

/**
 * Reads the text of an address as `parseAddress` does, and appends its four words; false where it is no address. Nothing is
 * allocated for what is written as usual.
 */
export function pushAddress(words: number[], bytes: Buffer, start: number, end: number): boolean {
  const word = readIPv4(bytes, start, end)
  if (word !== undefined) {
    words.push(0, 0, MAPPED_WORD, word)
    return true
  }
  if (readGroups(bytes, start, end)) {
    for (let i = 0; i < GROUPS; i += 2) words.push((groups[i]! << 16) | groups[i + 1]!)
    return true
  }
  const address = parseAddress(bytes.toString('utf8', start, end))
  if (!address) return false
  words.push(address.w0, address.w1, address.w2, address.w3)
  return true
}

function readIPv4(bytes: Buffer, start: number, end: number): number | undefined {
  let word = 0
  let dots = 0
  let part = 0
  let digits = 0
  for (let at = start; at < end; at++) {
    const byte = bytes[at]!
    const digit = byte - ZERO
    if (digit >= 0 && digit <= 9 && (part > 0 || digits === 0)) {
      part = part * 10 + digit
      digits++
      if (part > 255) return undefined
    } else if (byte === DOT && digits > 0 && dots < 3) {
      word = (word << 8) | part
      dots++
      part = 0
      digits = 0
    } else return undefined
  }
  return dots === 3 && digits > 0 ? (word << 8) | part : undefined
}

/** Fills `groups`; false where it is no IPv6 address in groups of hexadecimal digits alone. */
function readGroups(bytes: Buffer, start: number, end: number): boolean {
  let count = 0
  /** How many groups stand ahead of those that are left out. */
  let gap = -1
  let at = start
  if (bytes[at] === COLON) {
    if (end - at < 2 || bytes[at + 1] !== COLON) return false
    gap = 0
    at += 2
  }
  while (at < end) {
    let group = 0
    const first = at
    for (; at < end && bytes[at] !== COLON; at++) {
      const digit = hexDigit(bytes[at]!)
      if (digit < 0 || at - first === LONGEST_GROUP) return false
      group = (group << 4) | digit
    }
    if (at === first || count === GROUPS) return false
    groups[count++] = group
    if (at === end) break
    at++
    if (at === end) return false
    if (bytes[at] !== COLON) continue
    if (gap >= 0) return false
    gap = count
    at++
  }
  if (gap < 0) return count === GROUPS
  if (count === GROUPS) return false
  groups.copyWithin(GROUPS - (count - gap), gap, count)
  groups.fill(0, gap, GROUPS - (count - gap))
  return true
}

function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30
  const letter = byte | 0x20
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x61 + 10 : -1
}
