import { MODE_ANNOTATION, type ObjectRef } from './objects.ts'

/** A place in an object: `['spec', 'ingress', 0]`. */
export type ObjectPath = readonly (string | number)[]

/** An object is not what the API takes. `path` leads to the value at fault, `problem` says what is wrong with it. */
export class InvalidObject extends Error {
  readonly path: ObjectPath
  readonly problem: string

  constructor(path: ObjectPath, problem: string) {
    super(path.length === 0 ? problem : `${formatPath(path)}: ${problem}`)
    this.name = 'InvalidObject'
    this.path = path
    this.problem = problem
  }
}

/** An object carries a field that its reader does not know: a mistake, or a newer version of its API. */
export class UnknownField extends InvalidObject {
  readonly field: string

  constructor(path: ObjectPath, field: string, known: readonly string[]) {
    super([...path, field], `unknown field "${field}"; known here: ${known.join(', ')}`)
    this.field = field
  }
}

/** What can be read; `undefined` where it throws InvalidObject. */
export function attempt<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch (error) {
    if (error instanceof InvalidObject) return undefined
    throw error
  }
}

export function formatPath(path: ObjectPath): string {
  return path.map((part, i) => (typeof part === 'number' ? `[${part}]` : i === 0 ? part : `.${part}`)).join('')
}

/**
 * Reads a value strictly, as the API server's decoder and validation would: every method checks the type and throws
 * InvalidObject. `null` counts as absent, as in the API.
 */
export class ObjectReader {
  readonly value: unknown
  /** The path, or the reader of what the value is a part of: a path is only made where something is wrong. */
  readonly #place: ObjectPath | ObjectReader
  readonly #part: string | number | undefined

  /** @param place the value's path, or the reader of the mapping or list that has it as `part` */
  constructor(value: unknown, place: ObjectPath | ObjectReader = [], part?: string | number) {
    this.value = value ?? undefined
    this.#place = place
    this.#part = part
  }

  get path(): ObjectPath {
    const place = this.#place
    return place instanceof ObjectReader ? [...place.path, this.#part!] : place
  }

  get isPresent(): boolean {
    return this.value !== undefined
  }

  fail(problem: string): never {
    throw new InvalidObject(this.path, problem)
  }

  /** The fields of a mapping; an absent mapping has none. With `known`, any other field is refused. */
  fields(known?: readonly string[]): (name: string) => ObjectReader {
    if (!this.isPresent) return (name) => new ObjectReader(undefined, this, name)
    if (typeof this.value !== 'object' || Array.isArray(this.value))
      this.fail(`expected a mapping, found ${describe(this.value)}`)
    const mapping = this.value as Record<string, unknown>
    if (known) {
      for (const name of Object.keys(mapping)) {
        if (!known.includes(name)) throw new UnknownField(this.path, name, known)
      }
    }
    return (name) => new ObjectReader(Object.hasOwn(mapping, name) ? mapping[name] : undefined, this, name)
  }

  /** The items of a list; none where it is absent. */
  items(): ObjectReader[] {
    if (!this.isPresent) return []
    if (!Array.isArray(this.value)) this.fail(`expected a list, found ${describe(this.value)}`)
    return this.value.map((item, i) => new ObjectReader(item, this, i))
  }

  string(): string {
    if (typeof this.value !== 'string') this.fail(`expected a string, found ${describe(this.value)}`)
    return this.value
  }

  optionalString(): string | undefined {
    return this.isPresent ? this.string() : undefined
  }

  optionalBoolean(): boolean | undefined {
    if (this.isPresent && typeof this.value !== 'boolean')
      this.fail(`expected true or false, found ${describe(this.value)}`)
    return this.value as boolean | undefined
  }

  oneOf<T extends string>(choices: readonly T[]): T {
    const value = this.string()
    if (!choices.includes(value as T)) this.fail(`"${value}" is none of ${choices.join(', ')}`)
    return value as T
  }

  integer(least: number, most: number): number {
    const value = this.value
    if (typeof value !== 'number' || !Number.isInteger(value))
      this.fail(`expected an integer, found ${describe(value)}`)
    if (value < least || value > most) this.fail(`${value} is outside ${least}-${most}`)
    return value
  }

  /** A mapping of label keys to values, syntax checked (Kubernetes: "Syntax and character set"). */
  labels(): Map<string, string> {
    const field = this.fields()
    const labels = new Map<string, string>()
    for (const key of Object.keys((this.value as object | undefined) ?? {})) {
      const reader = field(key)
      reader.labelKey(key)
      labels.set(key, reader.labelValue())
    }
    return labels
  }

  /** Checks a label key: optional DNS prefix, then a name of up to 63 characters. */
  labelKey(key: string): string {
    const [prefix, name, ...rest] = key.includes('/') ? key.split('/') : [undefined, key]
    if (rest.length > 0 || !labelName.test(name ?? '') || (prefix !== undefined && !isSubdomain(prefix))) {
      this.fail(`"${key}" is no valid label key`)
    }
    return key
  }

  labelValue(): string {
    if (typeof this.value === 'number' || typeof this.value === 'boolean') {
      this.fail(`a label value is a string, found ${describe(this.value)}: quote it`)
    }
    const value = this.isPresent ? this.string() : ''
    if (value !== '' && !labelName.test(value)) this.fail(`"${value}" is no valid label value`)
    return value
  }
}

const labelName = /^[A-Za-z0-9](?:[-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?$/

/** RFC 1123 subdomain, as the API asks of most names. */
export function isSubdomain(text: string): boolean {
  return text.length <= 253 && /^[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*$/.test(text)
}

const metadataFields = [
  'name',
  'generateName',
  'namespace',
  'labels',
  'annotations',
  'uid',
  'resourceVersion',
  'generation',
  'creationTimestamp',
  'deletionTimestamp',
  'deletionGracePeriodSeconds',
  'ownerReferences',
  'finalizers',
  'managedFields',
  'selfLink',
]

/** What `metadata` says that policies use. */
export interface Metadata {
  readonly ref: ObjectRef
  readonly labels: Map<string, string>
  readonly createdMs: number
  /**
   * Whether a policy is decided and recorded, but never enforced (`knp.dev/mode: audit`). Throws InvalidObject where the
   * mode is none: only when asked, because the annotation says nothing on an object that is no policy.
   */
  readonly isAudited: boolean
}

/** Reads `metadata`, with the API's defaulting of the namespace where the kind has one. */
export function readMetadata(object: ObjectReader, kind: string, scope: 'Namespaced' | 'Cluster'): Metadata {
  const metadata = object.fields()('metadata')
  const field = metadata.fields(metadataFields)
  const name = field('name')
  if (!name.isPresent) metadata.fail('name is missing')
  if (!isSubdomain(name.string())) name.fail(`"${name.string()}" is no valid object name`)
  const namespace = field('namespace')
  if (scope === 'Cluster' && namespace.isPresent) namespace.fail(`a ${kind} has no namespace`)
  const namespaceName = namespace.optionalString() || 'default'
  if (!isSubdomain(namespaceName)) namespace.fail(`"${namespaceName}" is no valid namespace name`)
  const created = field('creationTimestamp')
  const createdMs = created.isPresent ? Date.parse(created.string()) : 0
  if (Number.isNaN(createdMs)) created.fail(`"${created.string()}" is no timestamp`)
  return {
    ref: scope === 'Cluster' ? { kind, name: name.string() } : { kind, namespace: namespaceName, name: name.string() },
    labels: field('labels').labels(),
    createdMs,
    get isAudited() {
      const mode = field('annotations').fields()(MODE_ANNOTATION)
      return mode.isPresent && mode.oneOf(['enforce', 'audit']) === 'audit'
    },
  }
}

function describe(value: unknown): string {
  if (value === undefined) return 'nothing'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'object') return 'a mapping'
  return typeof value === 'string' ? `"${value}"` : String(value)
}
