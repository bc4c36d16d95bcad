import { type Address, sameAddresses } from './address.ts'
import { AddressMap, type AddressTables, NO_NUMBER } from './address-map.ts'
import { encodeFacts } from './facts.ts'
import type { Labels, Node } from './objects.ts'
import { holds, sameTerms, type Term, type Terms } from './terms.ts'
import { TwinWords, type Words } from './twin-words.ts'
import type { WordHeap } from './word-heap.ts'

interface KnownNode {
  readonly node: Node
  readonly terms: readonly number[]
}

/** Numbers nodes and keeps their addresses and the terms that hold for them. */
export class NodeIndex {
  readonly names: string[] = []
  readonly #terms: Terms
  readonly #lists: WordHeap
  readonly #numbers = new Map<string, number>()
  readonly #nodes = new Map<string, KnownNode>()
  readonly #facts = new TwinWords(16)
  #addresses = new AddressMap()
  #hasMoved = false

  /** @param lists where the facts are put */
  constructor(terms: Terms, lists: WordHeap) {
    this.#terms = terms
    this.#lists = lists
  }

  /** The number of a node, be it known by its name alone. */
  numberOf(name: string): number {
    const known = this.#numbers.get(name)
    if (known !== undefined) return known
    this.#numbers.set(name, this.names.length)
    this.#facts.ensure(this.names.length + 1)
    return this.names.push(name) - 1
  }

  /** The labels of its Node object. */
  labelsOf(number: number): Labels | undefined {
    return this.#nodes.get(this.names[number] ?? '')?.node.labels
  }

  /** Answers the addresses, then and now, of a node that policies see otherwise; `undefined` where they do not. */
  upsert(node: Node): readonly Address[] | undefined {
    const former = this.#nodes.get(node.name)
    const terms: number[] = []
    this.#terms.collect('node', node.labels, terms)
    this.#nodes.set(node.name, { node, terms })
    const hasMoved = !former || !sameAddresses(former.node.addresses, node.addresses)
    if (!hasMoved && sameTerms(former.terms, terms)) return undefined
    this.#storeFacts(node.name, former?.terms, terms)
    if (hasMoved) this.#hasMoved = true
    return [...(former?.node.addresses ?? []), ...node.addresses]
  }

  /** Answers the addresses that the node had; `undefined` where it was not known. */
  delete(name: string): readonly Address[] | undefined {
    const former = this.#nodes.get(name)
    if (!former) return undefined
    this.#nodes.delete(name)
    this.#storeFacts(name, former.terms, undefined)
    this.#hasMoved = true
    return former.node.addresses
  }

  learn(terms: readonly Term[]): void {
    if (terms.length === 0) return
    for (const [name, known] of this.#nodes) {
      const learned = terms.filter((term) => holds(term, known.node.labels)).map(({ number }) => number)
      if (learned.length === 0) continue
      const all = [...known.terms, ...learned]
      this.#storeFacts(name, known.terms, all)
      this.#nodes.set(name, { node: known.node, terms: all })
    }
  }

  publish(): { readonly addressNode: AddressTables; readonly nodeFacts: Words } {
    if (this.#hasMoved) this.#indexAddresses()
    this.#hasMoved = false
    return { addressNode: this.#addresses.publish(), nodeFacts: this.#facts.publish() }
  }

  /** Nodes are few, and their addresses change rarely. Of two with one address the first by name has it. */
  #indexAddresses(): void {
    this.#addresses = new AddressMap()
    const nodes = [...this.#nodes.values()].map(({ node }) => node).sort((a, b) => (a.name < b.name ? -1 : 1))
    for (const { name, addresses } of nodes) {
      for (const address of addresses) {
        if (this.#addresses.get(address) === NO_NUMBER) this.#addresses.set(address, this.numberOf(name))
      }
    }
  }

  #storeFacts(name: string, former: readonly number[] | undefined, terms: readonly number[] | undefined): void {
    const number = this.numberOf(name)
    this.#lists.free(this.#facts.get(number), former ? encodeFacts(former).length : 0)
    this.#facts.set(number, terms ? this.#lists.store(encodeFacts(terms)) : 0)
  }
}
