import { type Document, isMap, isScalar, isSeq, LineCounter, parseAllDocuments, type Node as YamlNode } from 'yaml'
import { type ConnectivityTest, readConnectivityTest } from '../connectivity-test.ts'
import type { PolicyObject } from '../engine/index.ts'
import { InvalidObject, ObjectReader, readObject } from '../engine/index.ts'
import type { ObjectPath } from '../engine/object-reader.ts'
import { refName } from '../engine/objects.ts'
import { KnpError } from '../errors.ts'

/**
 * Whether a path, relative to a source's folder, names a manifest: YAML or JSON, and not hidden. Kubernetes mounts a
 * ConfigMap's files as links into a hidden folder, which would show each of them twice.
 */
export function isManifestName(path: string): boolean {
  return /\.(ya?ml|json)$/i.test(path) && !path.split('/').some((part) => part.startsWith('.'))
}

/** What a file of manifests holds. */
export interface Manifest {
  readonly objects: readonly PolicyObject[]
  /** Objects left out, one line each. */
  readonly notes: readonly string[]
  readonly tests: readonly ConnectivityTest[]
  /** What is wrong with the tests, one line each: it concerns who runs them, and nobody else. */
  readonly testProblems: readonly string[]
}

type Reading = { readonly object: PolicyObject } | { readonly note: string } | { readonly test: ConnectivityTest }

const TEST_VERSION = 'knp.dev/v1alpha1'

/**
 * Reads Kubernetes objects from YAML or JSON text, as strictly as the API server. `path` is how messages call it.
 * Throws KnpError INVALID_MANIFEST that lists every problem as `file:line: object: problem`.
 */
export function readManifest(text: string, path: string): Manifest {
  const file = inOneLine(path)
  const lines = new LineCounter()
  const objects: PolicyObject[] = []
  const notes: string[] = []
  const problems: string[] = []
  const tests: ConnectivityTest[] = []
  const testProblems: string[] = []
  for (const document of parseAllDocuments(text, {
    lineCounter: lines,
    prettyErrors: false,
    merge: true,
    strict: true,
  })) {
    const [error] = document.errors
    if (error) {
      problems.push(`${file}:${lines.linePos(error.pos[0]).line}: ${error.message}`)
      continue
    }
    for (const { value, path } of itemsOf(toPlain(document, file, lines, problems))) {
      const place = (at: ObjectPath) => `${file}:${lineOf(document, [...path, ...at], lines)}`
      try {
        const reading = read(value)
        const line = (at: ObjectPath) => lineOf(document, [...path, ...at], lines)
        if ('note' in reading) notes.push(`${place([])}: ${reading.note}`)
        else if ('object' in reading) objects.push(locate(reading.object, file, line([])))
        else tests.push(locateTest(reading.test, file, line))
      } catch (error) {
        if (!(error instanceof InvalidObject)) throw error
        const isTest = isMapping(value) && value.apiVersion === TEST_VERSION && value.kind === 'ConnectivityTest'
        const list = isTest ? testProblems : problems
        list.push(`${place(error.path)}: ${objectName(value)}${error.message}`)
      }
    }
  }
  if (problems.length > 0) throw invalidManifest([...problems, ...testProblems])
  return { objects, notes, tests, testProblems }
}

/** A path as a message names it: a line end in it would begin a line that looks like ours. */
export function inOneLine(path: string): string {
  return path.replaceAll('\n', '\\u{a}')
}

/** The error for manifests that were read but cannot be used. */
export function invalidManifest(problems: readonly string[]): KnpError {
  return new KnpError('INVALID_MANIFEST', problems.join('\n'), {
    hint: `correct the ${problems.length === 1 ? 'line' : 'lines'} named; nothing of these files is used until all of them can be read`,
  })
}

function toPlain(document: Document.Parsed, file: string, lines: LineCounter, problems: string[]): unknown {
  try {
    return document.toJS()
  } catch (error) {
    // An alias without its anchor, or one of very many: the parser does not say where.
    problems.push(`${file}:${lineOf(document, [], lines)}: ${(error as Error).message}`)
    return undefined
  }
}

/** The objects of a document: itself, or the items of a List as `kubectl get -o yaml` prints it. */
function itemsOf(value: unknown): { value: unknown; path: ObjectPath }[] {
  if (value === null || value === undefined) return []
  if (typeof value === 'object' && 'kind' in value && 'items' in value && Array.isArray(value.items)) {
    const kind = String(value.kind)
    if (kind.endsWith('List')) {
      // Items of a typed list (PodList) carry neither kind nor apiVersion.
      const inherited =
        kind === 'List'
          ? {}
          : { apiVersion: 'apiVersion' in value ? value.apiVersion : undefined, kind: kind.slice(0, -4) }
      return value.items.map((item, i) => ({
        value: isMapping(item) ? { ...inherited, ...item } : item,
        path: ['items', i],
      }))
    }
  }
  return [{ value, path: [] }]
}

function read(value: unknown): Reading {
  const object = new ObjectReader(value)
  const field = object.fields()
  const kind = field('kind')
  if (field('apiVersion').value === TEST_VERSION && kind.value === 'ConnectivityTest')
    return { test: readConnectivityTest(object) }
  const read = readObject(value)
  return read ? { object: read } : { note: `${objectName(value)}not a kind that policies refer to; left out` }
}

/** `NetworkPolicy shop/db: ` as far as it can be told; empty where it cannot. */
function objectName(value: unknown): string {
  if (!isMapping(value)) return ''
  const { kind, metadata } = value
  if (typeof kind !== 'string') return ''
  const { name, namespace } = isMapping(metadata) ? metadata : {}
  if (typeof name !== 'string') return `${kind}: `
  return `${kind} ${refName(typeof namespace === 'string' ? { namespace, name } : { name })}: `
}

function locate<T extends PolicyObject>(object: T, file: string, line: number): T {
  return { ...object, ref: { ...object.ref, file, line } }
}

function locateTest(
  { ref, checks }: ConnectivityTest,
  file: string,
  line: (at: ObjectPath) => number,
): ConnectivityTest {
  return {
    ref: { ...ref, file, line: line([]) },
    checks: checks.map((check, i) => ({ ...check, line: line(['spec', 'checks', i]) })),
  }
}

/** The line of a value, or of the nearest thing around it that is there. */
export function lineOf(document: Document.Parsed, path: ObjectPath, lines: LineCounter): number {
  let node: unknown = document.contents
  let offset = document.contents?.range?.[0] ?? document.range[0]
  for (const part of path) {
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(part))
      if (!pair) break
      offset = (pair.key as YamlNode).range?.[0] ?? offset
      node = pair.value
    } else if (isSeq(node)) {
      node = node.items[Number(part)]
      offset = (node as YamlNode | null)?.range?.[0] ?? offset
    } else break
  }
  return lines.linePos(offset).line
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
