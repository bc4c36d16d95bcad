/**
 * An IP address as four 32-bit words, most significant first, as signed integers so that V8 keeps them unboxed. IPv4 is
 * held in its v4-mapped form (::ffff:a.b.c.d, RFC 4291 section 2.5.5.2): one key for both families. A real IPv6 packet
 * never carries that form (the decoder refuses it), so the family can be read off the words.
 */
export interface Address {
  readonly w0: number
  readonly w1: number
  readonly w2: number
  readonly w3: number
}

/** A CIDR block: `prefix` counts bits of the 128-bit form, so an IPv4 /24 has prefix 120. Host bits are cleared. */
export interface Block {
  readonly address: Address
  readonly prefix: number
}

/** The third word of every IPv4 address in its v4-mapped form. */
export const MAPPED_WORD = 0xffff

export function isIPv4(address: Address): boolean {
  return address.w0 === 0 && address.w1 === 0 && address.w2 === MAPPED_WORD
}

export function sameAddress(a: Address, b: Address): boolean {
  return a.w3 === b.w3 && a.w2 === b.w2 && a.w1 === b.w1 && a.w0 === b.w0
}

/** Whether both are the same addresses in the same order. */
export function sameAddresses(a: readonly Address[], b: readonly Address[]): boolean {
  return a.length === b.length && a.every((address, i) => sameAddress(address, b[i]!))
}

/** Whether an address is one of these; asking allocates nothing. */
export function addressSet(addresses: Iterable<Address>): (address: Address) => boolean {
  const byLastWord = new Map<number, Address[]>()
  for (const address of addresses) {
    const alike = byLastWord.get(address.w3)
    if (alike) alike.push(address)
    else byLastWord.set(address.w3, [address])
  }
  return (address) => {
    const alike = byLastWord.get(address.w3)
    if (alike) for (let i = 0; i < alike.length; i++) if (sameAddress(alike[i]!, address)) return true
    return false
  }
}

/** Parses an IPv4 or IPv6 address; `undefined` where it is neither. Zones and leading zeros in IPv4 are refused, as by Go's net.ParseIP. */
export function parseAddress(text: string): Address | undefined {
  return text.includes(':') ? parseIPv6(text) : mapped(parseIPv4(text))
}

/** Parses `address/prefix`; `undefined` where it is no CIDR. Host bits are allowed, as in the API, and cleared. */
export function parseBlock(text: string): Block | undefined {
  const match = /^([^/]+)\/(0|[1-9]\d{0,2})$/.exec(text)
  if (!match) return undefined
  const address = parseAddress(match[1]!)
  if (!address) return undefined
  const length = Number(match[2])
  const prefix = match[1]!.includes(':') ? length : length + 96
  // A v4-mapped block shorter than /96 would mix the families.
  if (prefix > 128 || (isIPv4(address) && prefix < 96)) return undefined
  return { address: clearHostBits(address, prefix), prefix }
}

/** The block that holds exactly this address. */
export function blockOf(address: Address): Block {
  return { address, prefix: 128 }
}

/** Whether the block contains the address. A block contains addresses of its own family only. */
export function blockContains(block: Block, address: Address): boolean {
  const { address: base, prefix } = block
  if (prefix < 96 && isIPv4(address)) return false
  return matchesPrefix(base.w0, base.w1, base.w2, base.w3, prefix, address)
}

/** Whether the first `prefix` bits of the address are those of the four words. */
export function matchesPrefix(
  w0: number,
  w1: number,
  w2: number,
  w3: number,
  prefix: number,
  address: Address,
): boolean {
  if (((w0 ^ address.w0) & maskWord(prefix)) !== 0) return false
  if (((w1 ^ address.w1) & maskWord(prefix - 32)) !== 0) return false
  if (((w2 ^ address.w2) & maskWord(prefix - 64)) !== 0) return false
  return ((w3 ^ address.w3) & maskWord(prefix - 96)) === 0
}

/** The shortest usual text of an address: dotted IPv4, RFC 5952 IPv6. */
export function formatAddress(address: Address): string {
  if (isIPv4(address)) return formatIPv4(address.w3)
  const groups = [address.w0, address.w1, address.w2, address.w3].flatMap((word) => [word >>> 16, word & 0xffff])
  const gap = longestZeroRun(groups)
  if (!gap) return groups.map((group) => group.toString(16)).join(':')
  const hex = (part: number[]) => part.map((group) => group.toString(16)).join(':')
  return `${hex(groups.slice(0, gap.start))}::${hex(groups.slice(gap.start + gap.length))}`
}

export function formatBlock(block: Block): string {
  const v4 = isIPv4(block.address) && block.prefix >= 96
  return `${formatAddress(block.address)}/${v4 ? block.prefix - 96 : block.prefix}`
}

function maskWord(bits: number): number {
  if (bits <= 0) return 0
  return bits >= 32 ? -1 : -1 << (32 - bits)
}

function clearHostBits(address: Address, prefix: number): Address {
  return {
    w0: address.w0 & maskWord(prefix),
    w1: address.w1 & maskWord(prefix - 32),
    w2: address.w2 & maskWord(prefix - 64),
    w3: address.w3 & maskWord(prefix - 96),
  }
}

function mapped(word: number | undefined): Address | undefined {
  return word === undefined ? undefined : { w0: 0, w1: 0, w2: MAPPED_WORD, w3: word }
}

function parseIPv4(text: string): number | undefined {
  const parts = text.split('.')
  if (parts.length !== 4) return undefined
  let word = 0
  for (const part of parts) {
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return undefined
    word = (word << 8) | Number(part)
  }
  return word
}

function parseIPv6(text: string): Address | undefined {
  const halves = text.split('::')
  if (halves.length > 2) return undefined
  const head = parseGroups(halves[0]!, halves.length === 1)
  const tail = halves.length === 2 ? parseGroups(halves[1]!, true) : []
  if (!head || !tail) return undefined
  const missing = 8 - head.length - tail.length
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined
  const g = [...head, ...new Array<number>(missing).fill(0), ...tail]
  const word = (i: number) => (g[i]! << 16) | g[i + 1]!
  return { w0: word(0), w1: word(2), w2: word(4), w3: word(6) }
}

/** 16-bit groups of one side of `::`; the last may be a dotted IPv4 address where this side ends the text. */
function parseGroups(text: string, endsAddress: boolean): number[] | undefined {
  if (text === '') return []
  const groups: number[] = []
  const parts = text.split(':')
  for (const [i, part] of parts.entries()) {
    if (endsAddress && i === parts.length - 1 && part.includes('.')) {
      const word = parseIPv4(part)
      if (word === undefined) return undefined
      groups.push(word >>> 16, word & 0xffff)
    } else {
      if (!/^[0-9a-fA-F]{1,4}$/.test(part)) return undefined
      groups.push(Number.parseInt(part, 16))
    }
  }
  return groups
}

function formatIPv4(word: number): string {
  return [word >>> 24, (word >>> 16) & 255, (word >>> 8) & 255, word & 255].join('.')
}

function longestZeroRun(groups: readonly number[]): { start: number; length: number } | undefined {
  let best: { start: number; length: number } | undefined
  for (let start = 0; start < groups.length; start++) {
    let length = 0
    while (start + length < groups.length && groups[start + length] === 0) length++
    if (length > 1 && length > (best?.length ?? 0)) best = { start, length }
  }
  return best
}
