import { mkdir, open, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import type { PolicyObject } from '../engine/index.ts'

/** The objects of each source, by its name. */
export type Picture = ReadonlyMap<string, readonly PolicyObject[]>

/** A picture that was in force, from disk. */
export interface SavedPicture {
  readonly savedAtMs: number
  readonly sources: Picture
}

const FORMAT = 2
/** Less than a millisecond's work. */
const OBJECTS_PER_WRITE = 50
/** Of each write's time so much more is left to others: a large picture takes long, and nobody waits for it. */
const PAUSE_PER_WRITE = 3
/** Changes that come together are saved together. */
const SAVE_DELAY_MS = 500
/** While changes go on; who starts from a picture that is some seconds old has its sources to correct it. */
const SAVE_INTERVAL_MS = 10_000
/** Of a large picture's time so much more passes without one. */
const PAUSE_PER_SAVE = 9
const FILE = 'last-good.jsonl'

/**
 * Keeps the last picture that was in force, so that a start with a source that cannot be read is a protected one. The file
 * is written whole and renamed into place: a full disk or a crash leaves the former one.
 */
export class LastGood {
  readonly #folder: string
  readonly #onProblem: (message: string) => void
  #saving: Promise<void> = Promise.resolve()
  #isDue = false
  #nextSaveMs = 0
  #problem: string | undefined
  #savedAtMs: number | undefined

  /**
   * @param folder knp's state directory; made, for root alone, when something is saved
   * @param onProblem told when `keep` cannot save, once for each reason
   */
  constructor(folder: string, onProblem: (message: string) => void = () => {}) {
    this.#folder = folder
    this.#onProblem = onProblem
  }

  /** Why the last `keep` saved nothing. */
  get problem(): string | undefined {
    return this.#problem
  }

  /** When it saved last; `undefined` before. */
  get savedAtMs(): number | undefined {
    return this.#savedAtMs
  }

  /**
   * Saves a picture within half a second, or ten seconds while changes go on: `picture` is asked for then. At once when the
   * signal aborts. A disk that refuses stops nothing.
   */
  keep(picture: () => Picture, signal: AbortSignal): void {
    if (this.#isDue) return
    this.#isDue = true
    this.#saving = this.#saving.then(async () => {
      const waitMs = Math.max(SAVE_DELAY_MS, this.#nextSaveMs - performance.now())
      await setTimeout(waitMs, undefined, { signal }).catch(() => {})
      this.#isDue = false
      const begunMs = performance.now()
      try {
        await this.save(picture(), signal)
        const endMs = performance.now()
        this.#nextSaveMs = endMs + Math.max(SAVE_INTERVAL_MS, (endMs - begunMs) * PAUSE_PER_SAVE)
        this.#problem = undefined
      } catch (error) {
        const message = `${this.#folder}: the picture in force cannot be saved for the next start: ${(error as Error).message}`
        if (message !== this.#problem) this.#onProblem(message)
        this.#problem = message
      }
    })
  }

  /** Resolves when what `keep` was asked for is done. */
  settled(): Promise<void> {
    return this.#saving
  }

  /** `undefined` where nothing is saved, or what is saved is of another version or damaged. */
  async load(): Promise<SavedPicture | undefined> {
    try {
      const file = await open(join(this.#folder, FILE))
      const sources = new Map<string, PolicyObject[]>()
      let header: Header | undefined
      let objects: PolicyObject[] | undefined
      for await (const text of file.readLines()) {
        const line = JSON.parse(text, revive) as Line
        if ('format' in line) header = line
        else if (header?.format !== FORMAT) return undefined
        else if ('end' in line) return { savedAtMs: header.savedAtMs, sources }
        else if ('object' in line) objects!.push(line.object)
        else {
          objects = []
          sources.set(line.source, objects)
        }
      }
    } catch {
      // As if there were nothing.
    }
    return undefined
  }

  /**
   * Throws the system's error (ENOSPC, EACCES, EROFS): the former picture stays. Gives way to others while it writes: a
   * large picture takes seconds. Where the signal aborts it hurries.
   */
  async save(sources: Picture, signal?: AbortSignal): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 })
    const path = join(this.#folder, FILE)
    const savedAtMs = Date.now()
    const file = await open(`${path}.new`, 'w', 0o600)
    try {
      await file.write(lineOf({ format: FORMAT, savedAtMs }))
      for (const [source, objects] of sources) {
        await file.write(lineOf({ source }))
        for (let at = 0; at < objects.length; at += OBJECTS_PER_WRITE) {
          const begunMs = performance.now()
          await file.write(linesOf(objects.slice(at, at + OBJECTS_PER_WRITE)))
          const pauseMs = (performance.now() - begunMs) * PAUSE_PER_WRITE
          if (signal && !signal.aborted) await setTimeout(pauseMs, undefined, { signal }).catch(() => {})
        }
      }
      await file.write(lineOf({ end: true }))
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(`${path}.new`, path)
    this.#savedAtMs = savedAtMs
  }
}

/** A file is a header, then the source and its objects for each, and that this was all. */
type Line = Header | { readonly source: string } | { readonly object: PolicyObject } | { readonly end: true }

interface Header {
  readonly format: number
  readonly savedAtMs: number
}

function lineOf(line: Line): string {
  return `${JSON.stringify(line, replace)}\n`
}

function linesOf(objects: readonly PolicyObject[]): string {
  return objects.map((object) => lineOf({ object })).join('')
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
