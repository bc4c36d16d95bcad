import type { Snapshot } from '../engine/index.ts'
import { FilesSource } from './files.ts'
import { ObjectStore } from './object-store.ts'

/** What the files say, read once. Throws KnpError INVALID_MANIFEST, UNREADABLE_SOURCE. */
export async function loadSnapshot(
  paths: readonly string[],
): Promise<{ snapshot: Snapshot; notes: readonly string[] }> {
  const store = new ObjectStore()
  const notes: string[] = []
  for (const path of paths) {
    const source = new FilesSource(path)
    store.apply(source.name, await source.read())
    notes.push(...source.health().notes)
  }
  return { snapshot: store.snapshot(), notes }
}
