import type { Snapshot } from '../engine/index.ts'
import { ObjectStore } from './object-store.ts'
import { readSource, type SourceChoice } from './open.ts'

/** What the sources say, read once. Throws KnpError INVALID_MANIFEST, UNREADABLE_SOURCE, UNREACHABLE, API_REFUSED. */
export async function loadSnapshot(
  choices: readonly SourceChoice[],
): Promise<{ snapshot: Snapshot; notes: readonly string[] }> {
  const store = new ObjectStore()
  const notes: string[] = []
  for (const choice of choices) {
    const read = await readSource(choice)
    store.apply(read.name, read.delta)
    notes.push(...read.notes)
  }
  return { snapshot: store.snapshot(), notes }
}
