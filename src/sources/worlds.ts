import { readdir, readFile, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { ConnectivityTest } from '../connectivity-test.ts'
import type { Delta, Snapshot } from '../engine/index.ts'
import { refName } from '../engine/objects.ts'
import { KnpError } from '../errors.ts'
import { collect, unreadable } from './files.ts'
import { invalidManifest, isManifestName, type Manifest, readManifest } from './manifest.ts'
import { ObjectStore } from './object-store.ts'
import { readSource, type SourceChoice } from './open.ts'

/** Files whose objects and tests belong together. */
export interface WorldFiles {
  /** The file or folder, as it was given or found. */
  readonly path: string
  readonly files: readonly string[]
}

/** A world that was read: what there is, and what is said of it. */
export interface LoadedWorld {
  readonly snapshot: Snapshot
  readonly tests: readonly ConnectivityTest[]
  readonly notes: readonly string[]
}

/** The worlds of some paths: a file is one; a folder is one for each folder in it, itself included, that directly holds manifests. Throws KnpError UNREADABLE_SOURCE. */
export async function findWorlds(paths: readonly string[]): Promise<WorldFiles[]> {
  const worlds = new Map<string, WorldFiles>()
  for (const path of paths) for (const world of await worldsOf(path)) worlds.set(resolve(world.path), world)
  return [...worlds.values()]
}

async function worldsOf(path: string): Promise<WorldFiles[]> {
  try {
    if (!(await stat(path)).isDirectory()) return [{ path, files: [path] }]
    const entries = (await readdir(path, { withFileTypes: true }))
      .filter(({ name }) => !name.startsWith('.'))
      .sort((a, b) => (a.name < b.name ? -1 : 1))
    const worlds: WorldFiles[] = []
    const files: string[] = []
    for (const entry of entries) {
      const place = join(path, entry.name)
      if (entry.isDirectory()) worlds.push(...(await worldsOf(place)))
      else if (isManifestName(entry.name)) files.push(place)
    }
    return files.length > 0 ? [{ path, files }, ...worlds] : worlds
  } catch (error) {
    throw error instanceof KnpError ? error : unreadable(path, error)
  }
}

/** What is part of every world. Throws KnpError INVALID_MANIFEST, UNREADABLE_SOURCE, UNREACHABLE, API_REFUSED. */
export async function loadShared(choices: readonly SourceChoice[]): Promise<{ deltas: Delta[]; notes: string[] }> {
  const deltas: Delta[] = []
  const notes: string[] = []
  for (const choice of choices) {
    const read = await readSource(choice)
    deltas.push(read.delta)
    notes.push(...read.notes)
  }
  return { deltas, notes }
}

/**
 * Reads a world: its own objects beside the shared ones, of which it replaces those with the same kind and name. Throws
 * KnpError INVALID_MANIFEST with every problem, those of its tests too, and UNREADABLE_SOURCE.
 */
export async function loadWorld({ files }: WorldFiles, shared: readonly Delta[]): Promise<LoadedWorld> {
  const manifests = new Map<string, { readonly manifest: Manifest }>()
  const problems: string[] = []
  for (const file of files) {
    try {
      const manifest = readManifest(await readText(file), file)
      problems.push(...manifest.testProblems)
      manifests.set(file, { manifest })
    } catch (error) {
      if (!(error instanceof KnpError && error.code === 'INVALID_MANIFEST')) throw error
      problems.push(error.message)
    }
  }
  const read = [...manifests.values()].map(({ manifest }) => manifest)
  const tests = read.flatMap((manifest) => manifest.tests)
  problems.push(...namesakes(tests))
  if (problems.length > 0) throw invalidManifest(problems)
  const store = new ObjectStore()
  for (const [i, delta] of shared.entries()) store.apply(`shared ${i}`, delta)
  store.apply('world', { upserts: [...collect(manifests).values()], deletes: [] })
  return { snapshot: store.snapshot(), tests, notes: read.flatMap((manifest) => manifest.notes) }
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    throw unreadable(file, error)
  }
}

function namesakes(tests: readonly ConnectivityTest[]): string[] {
  const known = new Map<string, ConnectivityTest>()
  return tests.flatMap((test) => {
    const name = refName(test.ref)
    const other = known.get(name)
    known.set(name, test)
    if (!other) return []
    const { ref } = other
    return [`${test.ref.file}:${test.ref.line}: ConnectivityTest ${name} stands already at ${ref.file}:${ref.line}`]
  })
}
