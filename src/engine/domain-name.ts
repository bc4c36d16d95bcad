import { type Address, formatAddress } from './address.ts'
import { type ObjectReader, readMetadata } from './object-reader.ts'
import type { ObjectRef } from './objects.ts'
import { readAddress } from './workload.ts'

/** What a DNS name resolves to, written down: for hosts without a resolver to listen to, and for questions. */
export interface DomainName {
  readonly type: 'DomainName'
  readonly ref: ObjectRef
  /** In lower case, without a trailing dot. */
  readonly name: string
  readonly addresses: readonly Address[]
}

/** A knp.dev/v1alpha1 DomainName, whose `metadata.name` is the name; throws InvalidObject. */
export function readDomainName(object: ObjectReader): DomainName {
  const top = object.fields(['apiVersion', 'kind', 'metadata', 'spec'])
  const { ref } = readMetadata(object, 'DomainName', 'Cluster')
  const addresses = top('spec').fields(['addresses'])('addresses')
  if (!addresses.isPresent) top('spec').fail('addresses is missing; a name without any is written []')
  return { type: 'DomainName', ref, name: ref.name, addresses: addresses.items().map(readAddress) }
}

/**
 * Whether a text is a domain name as the policy APIs take it: two labels or more, `*.` in front where it stands for names
 * below. Their pattern, but for the punctuation that its `A-z` lets begin a label: of that, the underscore alone is used.
 */
export function isDomainPattern(text: string): boolean {
  return /^(?:\*\.)?(?:[A-Za-z0-9_](?:[-A-Za-z0-9_]*[A-Za-z0-9])?\.)+[A-Za-z0-9_](?:[-A-Za-z0-9_]*[A-Za-z0-9])?\.?$/.test(
    text,
  )
}

/** The form that names are compared in: lower case (of ASCII alone, RFC 4343), without a trailing dot. */
export function normalName(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => letter.toLowerCase()).replace(/\.$/, '')
}

/** Whether a pattern of a policy covers a name; `*.` covers one or more labels, whole ones. */
export function coversName(pattern: string, name: string): boolean {
  const wanted = normalName(pattern)
  const given = normalName(name)
  if (!wanted.startsWith('*.')) return given === wanted
  const suffix = wanted.slice(1)
  return given.length > suffix.length && given.endsWith(suffix)
}

/** The addresses that DNS answers gave names, each until its answer expires. The time is the caller's. */
export class ResolvedNames {
  /** By name, then by the address's text. */
  readonly #names = new Map<string, Map<string, Known>>()

  /** How many names have an address. */
  get size(): number {
    return this.#names.size
  }

  /**
   * Takes an answer. What earlier answers gave stays until it expires, and no answer shortens another's life.
   * @returns whether the name has an address that it had not
   */
  learn(name: string, addresses: readonly Address[], expiresAtMs: number): boolean {
    if (addresses.length === 0) return false
    const key = normalName(name)
    const known = this.#names.get(key) ?? new Map<string, Known>()
    this.#names.set(key, known)
    const sizeBefore = known.size
    for (const address of addresses) {
      const text = formatAddress(address)
      known.set(text, { address, expiresAtMs: Math.max(expiresAtMs, known.get(text)?.expiresAtMs ?? expiresAtMs) })
    }
    return known.size > sizeBefore
  }

  /** Forgets what expires at this time or before it, and answers the names that lost an address. */
  expire(nowMs: number): readonly string[] {
    const changed: string[] = []
    for (const [name, known] of this.#names) {
      const sizeBefore = known.size
      for (const [text, { expiresAtMs }] of known) if (expiresAtMs <= nowMs) known.delete(text)
      if (known.size < sizeBefore) changed.push(name)
      if (known.size === 0) this.#names.delete(name)
    }
    return changed
  }

  /** The addresses of a name, or of all names that a `*.` pattern covers; each once, in the order they were learned. */
  addressesOf(pattern: string): readonly Address[] {
    const wanted = normalName(pattern)
    const known = wanted.startsWith('*.')
      ? [...this.#names].flatMap(([name, addresses]) => (coversName(wanted, name) ? [...addresses] : []))
      : (this.#names.get(wanted) ?? [])
    return [...new Map(known).values()].map(({ address }) => address)
  }
}

interface Known {
  readonly address: Address
  readonly expiresAtMs: number
}
