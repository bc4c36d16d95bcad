import { constants } from 'node:fs'
import { type FileHandle, mkdir, open, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import type { Delta, PolicyObject } from '../engine/index.ts'
import { objectKey } from '../engine/snapshot.ts'

/** The objects of each source, by its name. */
export type Picture = ReadonlyMap<string, readonly PolicyObject[]>

/** What of each source has come, changed or gone, by its name. */
export type PictureChange = ReadonlyMap<string, Delta>

/** Where the picture comes from. */
export interface PictureKeeper {
  picture(): Picture
  /** What has changed since the last call; `undefined` the first time, and where that is not known. */
  takeUnsaved(): PictureChange | undefined
}

/** A picture that was in force, from disk. */
export interface SavedPicture {
  readonly savedAtMs: number
  readonly sources: Picture
}

const FORMAT = 2
/** Less than a millisecond's work. */
const ITEMS_PER_WRITE = 50
/** Of each write's time so much more is left to others: a large picture takes long, and nobody waits for it. */
const PAUSE_PER_WRITE = 3
/** Changes that come together are saved together. */
const SAVE_DELAY_MS = 500
/** While changes go on; who starts from a picture that is some seconds old has its sources to correct it. */
const SAVE_INTERVAL_MS = 10_000
/** Of a large picture's time so much more passes without one. */
const PAUSE_PER_SAVE = 9
/** Changes are appended until they are as long as the picture, of a small one as long as this. */
const MIN_APPENDED_BYTES = 1 << 20
const FILE = 'last-good.jsonl'

/**
 * Keeps the last picture that was in force, so that a start with a source that cannot be read is a protected one. The file
 * is written whole and renamed into place, and then grows by what changes: each time an end says that this was all of it. So a
 * full disk or a crash leaves what was there before.
 */
export class LastGood {
  readonly #folder: string
  readonly #onProblem: (message: string) => void
  #saving: Promise<void> = Promise.resolve()
  #isDue = false
  #nextSaveMs = 0
  #problem: string | undefined
  #savedAtMs: number | undefined
  /** How long the file is that this has written, and how long the picture in it was; `undefined` where changes cannot follow. */
  #written: { readonly bytes: number; readonly pictureBytes: number } | undefined

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
   * Saves the picture within half a second, or ten seconds while changes go on: it is asked for then. At once when the signal
   * aborts. A disk that refuses stops nothing.
   */
  keep(keeper: PictureKeeper, signal: AbortSignal): void {
    if (this.#isDue) return
    this.#isDue = true
    this.#saving = this.#saving.then(async () => {
      const waitMs = Math.max(SAVE_DELAY_MS, this.#nextSaveMs - performance.now())
      await setTimeout(waitMs, undefined, { signal }).catch(() => {})
      this.#isDue = false
      const begunMs = performance.now()
      try {
        const change = keeper.takeUnsaved()
        if (!change || !(await this.append(change, signal))) await this.save(keeper.picture(), signal)
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
    const sources = new Map<string, Map<string, PolicyObject>>()
    let savedAtMs: number | undefined
    try {
      const file = await open(join(this.#folder, FILE))
      let header: Header | undefined
      let objects: Map<string, PolicyObject> | undefined
      /** What is to be done when the end of it has come. */
      let steps: (() => void)[] = []
      for await (const text of file.readLines()) {
        const line = JSON.parse(text, revive) as Line
        if ('format' in line) header = line
        else if (header?.format !== FORMAT) break
        else if ('end' in line) {
          for (const step of steps) step()
          steps = []
          savedAtMs = line.savedAtMs ?? header.savedAtMs
        } else if ('source' in line) {
          const own = sources.get(line.source) ?? new Map<string, PolicyObject>()
          objects = own
          steps.push(() => sources.set(line.source, own))
        } else {
          const own = objects!
          if ('deleted' in line) steps.push(() => own.delete(line.deleted))
          else steps.push(() => own.set(objectKey(line.object), line.object))
        }
      }
    } catch {
      // What has no end was never saved.
    }
    if (savedAtMs === undefined) return undefined
    return { savedAtMs, sources: new Map([...sources].map(([source, objects]) => [source, [...objects.values()]])) }
  }

  /**
   * Throws the system's error (ENOSPC, EACCES, EROFS): the former picture stays. Gives way to others while it writes: a
   * large picture takes seconds. Where the signal aborts it hurries.
   */
  async save(sources: Picture, signal?: AbortSignal): Promise<void> {
    this.#written = undefined
    await mkdir(this.#folder, { recursive: true, mode: 0o700 })
    const path = join(this.#folder, FILE)
    const savedAtMs = Date.now()
    const file = await open(`${path}.new`, 'w', 0o600)
    let bytes = 0
    try {
      bytes += await writeLines(file, [{ format: FORMAT, savedAtMs }])
      for (const [source, objects] of sources) {
        bytes += await writeLines(file, [{ source }])
        bytes += await writeSlowly(file, objects, (object) => ({ object }), signal)
      }
      bytes += await writeLines(file, [{ end: true }])
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(`${path}.new`, path)
    this.#written = { bytes, pictureBytes: bytes }
    this.#savedAtMs = savedAtMs
  }

  /**
   * Adds what has changed since the picture was saved, in the same way. Answers whether it could: not to what others have
   * touched, and not for ever. Then, and after an error, the picture is to be saved whole.
   */
  async append(change: PictureChange, signal?: AbortSignal): Promise<boolean> {
    const written = this.#written
    this.#written = undefined
    if (!written || written.bytes - written.pictureBytes > Math.max(written.pictureBytes, MIN_APPENDED_BYTES))
      return false
    const savedAtMs = Date.now()
    let { bytes } = written
    // Not made anew where somebody has removed it.
    const file = await open(join(this.#folder, FILE), constants.O_WRONLY | constants.O_APPEND).catch(() => undefined)
    if (!file) return false
    try {
      if ((await file.stat()).size !== bytes) return false
      for (const [source, { upserts, deletes }] of change) {
        bytes += await writeLines(file, [{ source }])
        bytes += await writeSlowly(file, deletes, (deleted) => ({ deleted }), signal)
        bytes += await writeSlowly(file, upserts, (object) => ({ object }), signal)
      }
      bytes += await writeLines(file, [{ end: true, savedAtMs }])
      await file.datasync()
    } finally {
      await file.close()
    }
    this.#written = { bytes, pictureBytes: written.pictureBytes }
    this.#savedAtMs = savedAtMs
    return true
  }
}

/**
 * A file is a header, then the source and its objects for each, and that this was all. What has changed since follows in the same
 * way, with its own end.
 */
type Line =
  | Header
  | { readonly source: string }
  | { readonly object: PolicyObject }
  | { readonly deleted: string }
  | { readonly end: true; readonly savedAtMs?: number }

interface Header {
  readonly format: number
  readonly savedAtMs: number
}

/** Answers how many bytes that were. */
async function writeLines(file: FileHandle, lines: readonly Line[]): Promise<number> {
  const text = lines.map((line) => `${JSON.stringify(line, replace)}\n`).join('')
  return (await file.write(text)).bytesWritten
}

/** The same with a line for each item, some at a time, giving way to others between them. */
async function writeSlowly<T>(
  file: FileHandle,
  items: readonly T[],
  lineOf: (item: T) => Line,
  signal: AbortSignal | undefined,
): Promise<number> {
  let bytes = 0
  for (let at = 0; at < items.length; at += ITEMS_PER_WRITE) {
    const begunMs = performance.now()
    bytes += await writeLines(file, items.slice(at, at + ITEMS_PER_WRITE).map(lineOf))
    const pauseMs = (performance.now() - begunMs) * PAUSE_PER_WRITE
    if (signal && !signal.aborted) await setTimeout(pauseMs, undefined, { signal }).catch(() => {})
  }
  return bytes
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
