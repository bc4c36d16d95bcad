/** Which workloads have which identity, as lists linked through arrays: a workload is in one list at most. */
export class Members {
  /** Per identity, its first workload plus one; 0 where it has none. */
  readonly #first: number[] = []
  /** Per workload, its neighbours plus one. */
  readonly #next: number[] = []
  readonly #previous: number[] = []

  add(identity: number, workload: number): void {
    const first = this.#first[identity] ?? 0
    this.#next[workload] = first
    this.#previous[workload] = 0
    if (first !== 0) this.#previous[first - 1] = workload + 1
    this.#first[identity] = workload + 1
  }

  remove(identity: number, workload: number): void {
    const next = this.#next[workload]!
    const previous = this.#previous[workload]!
    if (previous === 0) this.#first[identity] = next
    else this.#next[previous - 1] = next
    if (next !== 0) this.#previous[next - 1] = previous
  }

  isEmpty(identity: number): boolean {
    return (this.#first[identity] ?? 0) === 0
  }

  *of(identity: number): Iterable<number> {
    for (let at = this.#first[identity] ?? 0; at !== 0; at = this.#next[at - 1]!) yield at - 1
  }
}
