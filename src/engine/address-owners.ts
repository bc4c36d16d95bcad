import { type Address, formatAddress } from './address.ts'
import { AddressMap, type AddressTables, NO_NUMBER } from './address-map.ts'
import { refName, type Workload } from './objects.ts'

/** Which workload each address belongs to, also where several claim it. */
export class AddressOwners {
  readonly #workloads: readonly (Workload | undefined)[]
  readonly #owners = new AddressMap()
  /** Addresses that more than one workload claims, by their text. */
  readonly #contested = new Map<string, Set<number>>()

  /** @param workloads by their index; those that claim an address are in it */
  constructor(workloads: readonly (Workload | undefined)[]) {
    this.#workloads = workloads
  }

  claim(address: Address, workload: number): void {
    const owner = this.#owners.claim(address, workload)
    if (owner === NO_NUMBER || owner === workload) return
    const text = formatAddress(address)
    const claims = this.#contested.get(text) ?? new Set([owner])
    claims.add(workload)
    this.#contested.set(text, claims)
    this.#owners.set(address, this.#best(claims))
  }

  release(address: Address, workload: number): void {
    const text = formatAddress(address)
    const claims = this.#contested.get(text)
    if (!claims) {
      if (this.#owners.get(address) === workload) this.#owners.delete(address)
      return
    }
    claims.delete(workload)
    this.#owners.set(address, this.#best(claims))
    if (claims.size < 2) this.#contested.delete(text)
  }

  publish(): AddressTables {
    return this.#owners.publish()
  }

  #best(claims: ReadonlySet<number>): number {
    return [...claims].reduce((best, each) => (outranks(this.#workloads[each]!, this.#workloads[best]!) ? each : best))
  }
}

/** Two live pods with one address: Running wins over Pending, then the younger, then (no order of arrival) the first by name. */
export function outranks(a: Workload, b: Workload): boolean {
  if ((a.phase === 'Running') !== (b.phase === 'Running')) return a.phase === 'Running'
  if (a.createdMs !== b.createdMs) return a.createdMs > b.createdMs
  if (refName(a.ref) !== refName(b.ref)) return refName(a.ref) < refName(b.ref)
  return a.ref.kind < b.ref.kind
}
