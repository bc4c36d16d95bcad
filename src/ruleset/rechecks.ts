import { isIPv4 } from '../engine/address.ts'
import { type Address, formatAddress } from '../engine/index.ts'

/** How the addresses in the kernel's sets are to change. */
export interface RecheckChange {
  readonly added: readonly Address[]
  readonly removed: readonly Address[]
  /** Which families there are from then on; left out where they stay the same. */
  readonly families?: { readonly v4: boolean; readonly v6: boolean }
}

/**
 * Addresses whose connections are being rechecked, and what of them the kernel does not know yet. A change costs as much as
 * it names: with frequent ones hundreds are being rechecked.
 */
export class Rechecks {
  /** By the address's text; with the change that named it last. */
  readonly #named = new Map<string, { readonly address: Address; readonly change: number }>()
  /** Those that have come or gone since the kernel was told, and whether it has them. */
  readonly #untold = new Map<string, { readonly address: Address; readonly isTold: boolean }>()
  #count = { v4: 0, v6: 0 }
  #told = { v4: false, v6: false }

  get size(): number {
    return this.#named.size
  }

  get addresses(): readonly Address[] {
    return Array.from(this.#named.values(), ({ address }) => address)
  }

  get families(): { readonly v4: boolean; readonly v6: boolean } {
    return { v4: this.#count.v4 > 0, v6: this.#count.v6 > 0 }
  }

  add(addresses: readonly Address[], change: number): void {
    for (const address of addresses) {
      const text = formatAddress(address)
      if (!this.#named.has(text)) this.#moved(text, address, 1)
      this.#named.set(text, { address, change })
    }
  }

  /** Of those that no change named after the one given so many are done. Answers whether these were the last. */
  end(upToChange: number, most = Number.POSITIVE_INFINITY): boolean {
    let left = most
    for (const [text, { address, change }] of this.#named) {
      if (change > upToChange) continue
      if (left-- === 0) return false
      this.#named.delete(text)
      this.#moved(text, address, -1)
    }
    return true
  }

  clear(): void {
    this.end(Number.POSITIVE_INFINITY)
  }

  /** The kernel is told to forget all of them. */
  flushed(): void {
    this.#untold.clear()
    for (const [text, { address }] of this.#named) this.#untold.set(text, { address, isTold: false })
    this.#told = { v4: false, v6: false }
  }

  /** What the kernel is to be told. */
  change(): RecheckChange {
    const untold = [...this.#untold]
    const moved = (wasTold: boolean) =>
      untold
        .filter(([text, { isTold }]) => isTold === wasTold && this.#named.has(text) !== wasTold)
        .map(([, { address }]) => address)
    const { families } = this
    const isSame = families.v4 === this.#told.v4 && families.v6 === this.#told.v6
    return { added: moved(false), removed: moved(true), ...(!isSame && { families }) }
  }

  /** The kernel has been told. */
  told(): void {
    this.#untold.clear()
    this.#told = this.families
  }

  #moved(text: string, address: Address, by: 1 | -1): void {
    if (!this.#untold.has(text)) this.#untold.set(text, { address, isTold: by < 0 })
    this.#count[isIPv4(address) ? 'v4' : 'v6'] += by
  }
}
