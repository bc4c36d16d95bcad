import type { PolicyObject } from '../../engine/index.ts'
import type { Labels, NamedPort } from '../../engine/objects.ts'

/** The table is cleared of what is gone when it has grown to twice what was in use, and at least by so much. */
const SLACK = 20_000

/** Keeps one of what many objects have alike: the pods of a workload share their labels and ports, and all of a node its name. */
export class Interner {
  readonly #texts = new Map<string, string>()
  readonly #labels = new Map<string, Labels>()
  readonly #ports = new Map<string, readonly NamedPort[]>()
  #limit = SLACK

  /** An equal object that shares what it can. */
  intern<T extends PolicyObject>(object: T): T {
    switch (object.type) {
      case 'Workload': {
        const namespace = this.text(object.namespace)
        const shared: PolicyObject = {
          ...object,
          ref: { kind: object.ref.kind, namespace, name: object.name },
          namespace,
          labels: this.labels(object.labels),
          node: object.node === undefined ? undefined : this.text(object.node),
          ports: this.ports(object.ports),
          forwards: object.forwards.length === 0 ? none : object.forwards,
          addresses: object.addresses.length === 0 ? none : object.addresses,
        }
        return shared as T
      }
      case 'Node':
      case 'Namespace':
        return { ...object, labels: this.labels(object.labels) }
      default:
        return object
    }
  }

  /** Whether much of the table may be of objects that are gone: then `keepOnly` is due. */
  get isFull(): boolean {
    return this.#size > this.#limit
  }

  /** All that is known is of objects that are there. */
  noteAllInUse(): void {
    this.#limit = 2 * this.#size + SLACK
  }

  /** Forgets what none of these objects has. */
  keepOnly(objects: Iterable<PolicyObject>): void {
    this.#texts.clear()
    this.#labels.clear()
    this.#ports.clear()
    for (const object of objects) this.#note(object)
    this.noteAllInUse()
  }

  text(text: string): string {
    const known = this.#texts.get(text)
    if (known !== undefined) return known
    this.#texts.set(text, text)
    return text
  }

  get #size(): number {
    return this.#texts.size + this.#labels.size + this.#ports.size
  }

  #note(object: PolicyObject): void {
    if (object.type === 'Workload') {
      for (const text of [object.namespace, object.node ?? '']) this.#texts.set(text, text)
      this.#ports.set(portsKey(object.ports), object.ports)
    }
    if (object.type !== 'Workload' && object.type !== 'Node' && object.type !== 'Namespace') return
    this.#labels.set(labelsKey(object.labels), object.labels)
    for (const [key, value] of object.labels) {
      this.#texts.set(key, key)
      this.#texts.set(value, value)
    }
  }

  /** Equal labels that others have too. */
  labels(labels: Labels): Labels {
    const key = labelsKey(labels)
    const known = this.#labels.get(key)
    if (known) return known
    const shared = new Map([...labels].map(([key, value]) => [this.text(key), this.text(value)]))
    this.#labels.set(key, shared)
    return shared
  }

  /** Equal ports that others have too. */
  ports(ports: readonly NamedPort[]): readonly NamedPort[] {
    if (ports.length === 0) return none
    const key = portsKey(ports)
    const known = this.#ports.get(key)
    if (known) return known
    this.#ports.set(key, ports)
    return ports
  }
}

const none: readonly never[] = Object.freeze([])

/** Neither keys nor values of labels have white space. */
function labelsKey(labels: Labels): string {
  let key = ''
  for (const [name, value] of labels) key += `${name} ${value}\n`
  return key
}

function portsKey(ports: readonly NamedPort[]): string {
  let key = ''
  for (const { name, protocol, port } of ports) key += `${protocol} ${port} ${name}\n`
  return key
}
