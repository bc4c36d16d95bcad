import { mkdir, open, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import type { PolicyObject } from './source.ts'

/** The objects of each source, by its name. */
export type Picture = ReadonlyMap<string, readonly PolicyObject[]>

/** A picture that was in force, from disk. */
export interface SavedPicture {
  readonly savedAtMs: number
  readonly sources: Picture
}

const FORMAT = 1
const FILE = 'last-good.json'

/**
 * Keeps the last picture that was in force, so that a start with a source that cannot be read is a protected one. The file
 * is written whole and renamed into place: a full disk or a crash leaves the former one.
 */
export class LastGood {
  readonly #folder: string

  /** @param folder knp's state directory; made, for root alone, when something is saved */
  constructor(folder: string) {
    this.#folder = folder
  }

  /** `undefined` where nothing is saved, or what is saved is of another version or damaged. */
  async load(): Promise<SavedPicture | undefined> {
    try {
      const text = await readFile(join(this.#folder, FILE), 'utf8')
      const { format, savedAtMs, sources } = JSON.parse(text, revive) as SavedPicture & { format: number }
      return format === FORMAT && sources instanceof Map ? { savedAtMs, sources } : undefined
    } catch {
      return undefined
    }
  }

  /** Throws the system's error (ENOSPC, EACCES, EROFS): the former picture stays. */
  async save(sources: Picture): Promise<void> {
    const text = JSON.stringify({ format: FORMAT, savedAtMs: Date.now(), sources }, replace)
    await mkdir(this.#folder, { recursive: true, mode: 0o700 })
    const path = join(this.#folder, FILE)
    const file = await open(`${path}.new`, 'w', 0o600)
    try {
      await file.writeFile(text)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(`${path}.new`, path)
  }
}

/** Maps become lists of pairs under a key that no object has. */
const MAP = '$map'

function replace(_key: string, value: unknown): unknown {
  return value instanceof Map ? { [MAP]: [...value] } : value
}

function revive(_key: string, value: unknown): unknown {
  const pairs = typeof value === 'object' && value !== null && MAP in value ? value[MAP] : undefined
  return Array.isArray(pairs) ? new Map(pairs as [unknown, unknown][]) : value
}
