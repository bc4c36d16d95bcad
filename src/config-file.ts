import { lstat } from 'node:fs/promises'
import type { Loader } from 'cosmiconfig'
import { type Document, isNode, isScalar, LineCounter, parseDocument, visit } from 'yaml'
import type { ObjectPath } from './engine/object-reader.ts'
import { KnpError } from './errors.ts'
import { lineOf } from './sources/manifest.ts'
import { type FileRole, requireTrusted, unreadableFile } from './trusted-file.ts'

/** What a configuration file says, not yet checked. */
export interface ConfigFile {
  /** `undefined` where the file holds nothing. */
  readonly value: unknown
  /** `file:line` of a value, or of the nearest thing around it that is there. */
  readonly placeOf: (path: ObjectPath) => string
}

const role: FileRole = { name: 'a configuration', hint: 'name a YAML or JSON file that can be read with --config' }

/** The error for a configuration that was found but cannot be used: every problem on a line of its own. */
export function invalidConfig(problems: readonly string[], hint?: string): KnpError {
  return new KnpError('INVALID_CONFIG', listProblems(problems), {
    hint: hint ?? `correct the ${problems.length === 1 ? 'line' : 'lines'} named; docs/configuration.md has every key`,
  })
}

/** One line for each problem, in the order of lines; none twice. */
export function listProblems(problems: readonly string[]): string {
  return [...new Set(problems)].sort((a, b) => a.localeCompare(b, 'en', { numeric: true })).join('\n')
}

/** Whether something has this name, be it a link that leads nowhere. Throws KnpError INVALID_CONFIG where nobody can tell. */
export async function isThere(path: string): Promise<boolean> {
  try {
    await lstat(path)
    return true
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return false
    throw unreadable(path, error)
  }
}

/**
 * Reads a YAML or JSON file that only root or the running user can have written. Nothing in it is executed, and nothing
 * is read but the file itself. Leaves the working directory for `/`: resolve relative paths before.
 *
 * Throws KnpError INVALID_CONFIG: not there, not readable, not trusted, or no YAML.
 * @param path absolute
 */
export async function readConfigFile(path: string): Promise<ConfigFile> {
  const real = requireTrusted(path, role)
  // Creating an explorer looks for settings of cosmiconfig's own in the working directory, and runs them where they are
  // JavaScript (`.config/config.js`; version 10.0.1 has no option against it). Only root can put anything into `/`.
  process.chdir('/')
  const { cosmiconfig } = await import('cosmiconfig')
  const parse: Loader = (_path, text) => parseConfigFile(text, path)
  const refuse: Loader = () => {
    throw invalidConfig([`${path}: not a YAML or JSON file`], 'give it a name that ends in .yaml, .yml or .json')
  }
  const explorer = cosmiconfig('knp', {
    cache: false,
    searchStrategy: 'none',
    searchPlaces: ['knp.yaml'],
    loaders: {
      '.yaml': parse,
      '.yml': parse,
      '.json': parse,
      '.js': refuse,
      '.mjs': refuse,
      '.cjs': refuse,
      '.ts': refuse,
      '.mts': refuse,
      '.cts': refuse,
      noExt: refuse,
      default: refuse,
    },
  })
  // `load`, not `search`: that passes over a file that it may not read as if it were not there.
  const result = await explorer.load(real).catch((error: unknown) => {
    throw error instanceof KnpError ? error : unreadable(path, error)
  })
  // Of a package.json only a part would be read.
  if (!result) throw invalidConfig([`${path}: a package file is no configuration of knp`], 'name another file')
  if (result.isEmpty) return { value: undefined, placeOf: () => `${path}:1` }
  return result.config as ConfigFile
}

/** Parses the text of a configuration file that messages call `file`. Throws KnpError INVALID_CONFIG with all problems. */
export function parseConfigFile(text: string, file: string): ConfigFile {
  const lines = new LineCounter()
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    strict: true,
    schema: 'core',
    customTags: null,
    resolveKnownTags: false,
  })
  const place = (offset: number) => `${file}:${lines.linePos(offset).line}`
  const problems = document.errors.map(({ pos, message }) => `${place(pos[0])}: ${message}`)
  visit(document, (_key, node) => {
    if (!isNode(node)) return
    const at = place(node.range?.[0] ?? 0)
    if (node.tag !== undefined) problems.push(`${at}: ${node.tag}: tags are not taken here`)
    // cosmiconfig would load what it names, JavaScript too.
    if (isScalar(node) && node.value === '$import') problems.push(`${at}: $import: a configuration is one file`)
  })
  const value = problems.length === 0 ? toPlain(document, file, problems) : undefined
  if (problems.length > 0) throw invalidConfig(problems)
  return { value, placeOf: (path) => `${file}:${lineOf(document, path, lines)}` }
}

function toPlain(document: Document.Parsed, file: string, problems: string[]): unknown {
  try {
    return document.toJS()
  } catch (error) {
    problems.push(`${file}:1: ${(error as Error).message}`)
    return undefined
  }
}

function unreadable(path: string, cause: unknown): KnpError {
  return unreadableFile(path, cause, role)
}
