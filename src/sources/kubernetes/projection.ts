import { InvalidObject, ObjectReader, type Policy, type PolicyObject, understandPolicy } from '../../engine/index.ts'
import type { ObjectPath } from '../../engine/object-reader.ts'
import { refName } from '../../engine/objects.ts'
import type { Resource } from './resources.ts'

/** What is kept of an object that the API server delivered. */
export interface Projection {
  /** `undefined` where nothing of it can be used. */
  readonly object: PolicyObject | undefined
  /** Why that is not what the object says. */
  readonly problem?: string
}

/** More than this many values at fault: it is no object of this kind. */
const MAX_FAULTS = 20

/**
 * Reads an object as the API delivered it. One that cannot be understood is never dropped quietly: a policy becomes what
 * `understandPolicy` says; of anything else the last good version stays, and without one, what can be read counts.
 * @param value what is wanted of the object; items of a list carry neither kind nor apiVersion
 * @param lastGood the last version of the same object that was understood
 */
export function project(
  { kind, apiVersion, read }: Resource,
  value: unknown,
  lastGood: PolicyObject | undefined,
): Projection {
  if (!read) {
    const whole = isMapping(value) ? { ...value, apiVersion, kind } : value
    const { policy, problem } = understandPolicy(whole, lastGood as Policy | undefined)
    return { object: policy, ...(problem !== undefined && { problem }) }
  }
  try {
    return { object: read(new ObjectReader(value)) }
  } catch (error) {
    if (!(error instanceof InvalidObject)) throw error
    const why = `${kind} ${nameOf(value)}: ${error.message}`
    if (lastGood) return { object: lastGood, problem: `${why}; its last good version stays in force` }
    const object = salvage(read, value, error.path)
    const rest = object ? 'what cannot be read of it counts as absent' : 'it is left out'
    return { object, problem: `${why}; ${rest}` }
  }
}

/** Takes away what is at fault until the rest can be read. */
function salvage(read: (object: ObjectReader) => PolicyObject, value: unknown, fault: ObjectPath) {
  let rest = value
  let path = fault
  for (let faults = 0; faults < MAX_FAULTS && path.length > 0; faults++) {
    // Elsewhere it would be another object.
    if (path.join() === 'metadata,namespace') return undefined
    rest = without(rest, path)
    try {
      return read(new ObjectReader(rest))
    } catch (error) {
      if (!(error instanceof InvalidObject)) throw error
      // Where nothing is, the fault lies in what should have it.
      path = valueAt(rest, error.path) === undefined ? error.path.slice(0, -1) : error.path
    }
  }
  return undefined
}

/** A copy in which the value at this place is not there. */
function without(value: unknown, [first, ...rest]: ObjectPath): unknown {
  if (Array.isArray(value)) {
    if (rest.length === 0) return value.filter((_, i) => i !== first)
    return value.map((item, i) => (i === first ? without(item, rest) : item))
  }
  if (!isMapping(value) || first === undefined || !Object.hasOwn(value, first)) return value
  const { [first]: inner, ...others } = value
  return rest.length === 0 ? others : { ...others, [first]: without(inner, rest) }
}

function valueAt(value: unknown, path: ObjectPath): unknown {
  let at = value
  for (const part of path)
    at = typeof at === 'object' && at !== null ? (at as Record<string, unknown>)[part] : undefined
  return at ?? undefined
}

function nameOf(value: unknown): string {
  const metadata = isMapping(value) && isMapping(value.metadata) ? value.metadata : {}
  const { namespace, name } = metadata
  if (typeof name !== 'string') return '(without a name)'
  return refName(typeof namespace === 'string' ? { namespace, name } : { name })
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
