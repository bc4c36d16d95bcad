import { type FSWatcher, watch } from 'node:fs'
import { readdir, readFile, realpath, stat } from 'node:fs/promises'
import { dirname, join, relative, sep } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { type Delta, objectKey, type PolicyObject } from '../engine/index.ts'
import { refName } from '../engine/objects.ts'
import { KnpError } from '../errors.ts'
import { inOneLine, invalidManifest, isManifestName, type Manifest, readManifest } from './manifest.ts'
import { replaceManifests, requireFolder } from './replace-manifests.ts'
import type { PolicyFolder, Source, SourceHealth } from './source.ts'

interface ReadFile {
  /** Changes when the content may have. */
  readonly stamp: string
  readonly manifest: Manifest
}

/** Waits this long after a change, so that a file is read when its writer is done. */
const SETTLE_MS = 50
/** After a file has come or gone: renamed into place it is whole, and one that is written there brings further changes. */
const RENAME_SETTLE_MS = 10
/** Looks anyway this often: some file systems report no changes. */
const RESCAN_MS = 5000

/**
 * Manifests in files: a file, or a folder with all its sub-folders. All of them together are one picture: while any file
 * cannot be read, the last good picture stays in force and `health` says why.
 */
export class FilesSource implements Source {
  readonly name: string
  readonly #path: string
  readonly #onHealth: (health: SourceHealth) => void
  readonly #links: 'anywhere' | 'within'
  readonly #files = new Map<string, ReadFile>()
  #objects = new Map<string, PolicyObject>()
  #error: string | undefined
  #syncedAtMs: number | undefined
  #changes: ChangeWatcher | undefined

  /**
   * @param onHealth called when the source breaks, and when it is well again
   * @param links where links of a folder may lead; `within` for a folder that somebody hands over
   */
  constructor(
    path: string,
    onHealth: (health: SourceHealth) => void = () => {},
    links: 'anywhere' | 'within' = 'anywhere',
  ) {
    this.#links = links
    this.name = `files ${path}`
    this.#path = path
    this.#onHealth = onHealth
  }

  async start(update: (delta: Delta) => void, signal: AbortSignal): Promise<void> {
    const changes = new ChangeWatcher(signal)
    this.#changes = changes
    try {
      update(await this.read())
    } catch (error) {
      this.#error = error instanceof Error ? error.message : String(error)
      throw error
    } finally {
      void this.#follow(changes, update, signal)
    }
  }

  /** Reads what has changed since the last call and answers the difference; throws KnpError and keeps the last picture. */
  async read(): Promise<Delta> {
    const found = await this.#readFiles()
    const objects = collect(found)
    const upserts = [...objects]
      .filter(([key, object]) => !isDeepStrictEqual(this.#objects.get(key), object))
      .map(([, object]) => object)
    const deletes = [...this.#objects.keys()].filter((key) => !objects.has(key))
    this.#objects = objects
    this.#files.clear()
    for (const [path, file] of found) this.#files.set(path, file)
    this.#syncedAtMs = Date.now()
    return { upserts, deletes }
  }

  readonly folder: PolicyFolder = {
    requireReplaceable: async (folder) => {
      await requireFolder(this.#path)
      await requireFolder(folder)
    },
    replace: async (folder, backup) => {
      await replaceManifests(this.#path, folder, backup)
      return await this.read()
    },
  }

  health(): SourceHealth {
    return {
      name: this.name,
      isCurrent: this.#error === undefined,
      ...(this.#error !== undefined && { error: this.#error }),
      ...(this.#syncedAtMs !== undefined && { syncedAtMs: this.#syncedAtMs }),
      notes: [...this.#files.values()].flatMap(({ manifest }) => manifest.notes),
    }
  }

  async #follow(changes: ChangeWatcher, update: (delta: Delta) => void, signal: AbortSignal): Promise<void> {
    while (await changes.next(signal)) {
      let error: string | undefined
      // The first picture counts when it is empty too: it takes the place of an earlier run's.
      const isFirst = this.#syncedAtMs === undefined
      try {
        const delta = await this.read()
        if (isFirst || delta.upserts.length > 0 || delta.deletes.length > 0) update(delta)
      } catch (cause) {
        error = cause instanceof KnpError ? cause.message : String(cause)
      }
      const isNews = error !== this.#error
      this.#error = error
      if (isNews) this.#onHealth(this.health())
    }
  }

  /** All files as they are now; those that have not changed are not read again. Throws with the problems of all. */
  async #readFiles(): Promise<Map<string, ReadFile>> {
    const found = new Map<string, ReadFile>()
    const problems: string[] = []
    for (const path of await this.#list()) {
      try {
        if (path !== this.#path) await this.#requireFile(path)
        const stamp = await settledStampOf(path)
        const known = this.#files.get(path)
        found.set(
          path,
          known?.stamp === stamp ? known : { stamp, manifest: readManifest(await readFile(path, 'utf8'), path) },
        )
      } catch (error) {
        if (error instanceof KnpError && error.code === 'INVALID_MANIFEST') problems.push(error.message)
        else if (error instanceof KnpError) throw error
        // A file that went away between listing and reading is no file.
        else if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw unreadable(path, error)
      }
    }
    if (problems.length > 0) throw invalidManifest(problems)
    return found
  }

  /** Reading a pipe or a device would not end; what a link leads out to is not the folder's to show or to copy. */
  async #requireFile(path: string): Promise<void> {
    if (this.#links === 'within') {
      const [folder, file] = await Promise.all([realpath(this.#path), realpath(path)])
      if (!file.startsWith(`${folder}${sep}`)) {
        throw new KnpError('UNREADABLE_SOURCE', `${inOneLine(path)}: a link that leads out of the folder`, {
          hint: 'put the file itself there',
        })
      }
    }
    if (!(await stat(path)).isFile()) {
      throw new KnpError('UNREADABLE_SOURCE', `${inOneLine(path)}: neither a file nor a link to one`, {
        hint: 'remove it, or give it another name: what ends in .yaml, .yml or .json is read',
      })
    }
  }

  /** All objects of the picture last read. */
  get objects(): readonly PolicyObject[] {
    return [...this.#objects.values()]
  }

  async #list(): Promise<string[]> {
    try {
      if (!(await stat(this.#path)).isDirectory()) {
        // Not the file itself: a watch stays with the old file when a new one takes its place.
        await this.#changes?.watch([dirname(this.#path)])
        return [this.#path]
      }
      let entries: { readonly path: string; readonly isFolder: boolean }[]
      let isNewlyWatched: boolean | undefined
      do {
        entries = (await readdir(this.#path, { recursive: true, withFileTypes: true })).map((entry) => ({
          path: join(entry.parentPath, entry.name),
          isFolder: entry.isDirectory(),
        }))
        const folders = entries.filter(({ isFolder }) => isFolder).map(({ path }) => path)
        // What appears in a folder before it is watched is seen by listing again.
        isNewlyWatched = await this.#changes?.watch([this.#path, ...folders])
      } while (isNewlyWatched)
      return entries
        .filter(({ path, isFolder }) => !isFolder && isManifestName(relative(this.#path, path)))
        .map(({ path }) => path)
        .sort()
    } catch (error) {
      throw unreadable(this.#path, error)
    }
  }
}

/** One map of all objects; two of one name are an error that names both. */
export function collect(files: ReadonlyMap<string, Pick<ReadFile, 'manifest'>>): Map<string, PolicyObject> {
  const objects = new Map<string, PolicyObject>()
  const problems: string[] = []
  for (const { manifest } of files.values()) {
    for (const object of manifest.objects) {
      const key = objectKey(object)
      const other = objects.get(key)
      if (other) {
        const { file, line } = other.ref
        problems.push(
          `${object.ref.file}:${object.ref.line}: ${object.ref.kind} ${refName(object.ref)} stands already at ${file}:${line}`,
        )
      } else objects.set(key, object)
    }
  }
  if (problems.length > 0) throw invalidManifest(problems)
  return objects
}

/** Changes when the content may have. A file that was made just now and is empty has its content still to come. */
async function settledStampOf(path: string): Promise<string> {
  const { size, mtimeMs } = await stat(path)
  if (size === 0 && Date.now() - mtimeMs < SETTLE_MS) await sleep(SETTLE_MS)
  return stampOf(path)
}

async function stampOf(path: string): Promise<string> {
  const { ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true })
  return `${ino} ${size} ${mtimeNs} ${ctimeNs}`
}

/** The error for a path that cannot be read. */
export function unreadable(path: string, cause: unknown): KnpError {
  const code = (cause as NodeJS.ErrnoException).code
  const reason = code === 'ENOENT' ? 'no such file or folder' : code === 'EACCES' ? 'permission denied' : String(cause)
  return new KnpError('UNREADABLE_SOURCE', `${inOneLine(path)}: ${reason}`, {
    cause,
    hint: 'name a YAML file, or a folder of YAML files',
  })
}

/**
 * Tells when something in some folders may have changed; changes that come together count as one. Each folder has a watch
 * of its own: Node's recursive ones stay with a file that was replaced, and lose what happens to the new one.
 */
class ChangeWatcher {
  readonly #signal: AbortSignal
  readonly #watchers = new Map<string, { readonly inode: bigint; readonly watcher: FSWatcher }>()
  #wake: (() => void) | undefined
  #isChanged = false
  /** How long to wait for more. */
  #settleMs = 0

  constructor(signal: AbortSignal) {
    this.#signal = signal
  }

  /** Watches these folders and no others. True where one was not watched before: it is to be listed again. */
  async watch(folders: readonly string[]): Promise<boolean> {
    const wanted = new Set(folders)
    let isNew = false
    for (const [folder, { watcher }] of this.#watchers) {
      if (wanted.has(folder)) continue
      watcher.close()
      this.#watchers.delete(folder)
    }
    for (const folder of wanted) {
      try {
        const { ino: inode } = await stat(folder, { bigint: true })
        const known = this.#watchers.get(folder)
        if (known?.inode === inode || this.#signal.aborted) continue
        known?.watcher.close()
        const watcher = watch(folder, { signal: this.#signal }, (event) => {
          this.#changed(event === 'rename' ? RENAME_SETTLE_MS : SETTLE_MS)
        })
        // A watch that breaks leaves the periodic look.
        watcher.on('error', () => this.#changed(SETTLE_MS))
        this.#watchers.set(folder, { inode, watcher })
        isNew = true
      } catch {
        // Gone already, or no watch is to be had (a limit, a file system without them): the periodic look finds it.
      }
    }
    return isNew
  }

  /** Resolves to true after a change has settled or the time for a look has come, to false when the signal aborts. */
  async next(signal: AbortSignal): Promise<boolean> {
    if (!this.#isChanged) await this.#sleep(RESCAN_MS, signal, true)
    // Until nothing has happened for a while; a file written without end is read at last all the same.
    for (let rounds = 0; this.#isChanged && rounds < 10; rounds++) {
      this.#isChanged = false
      const settleMs = this.#settleMs
      this.#settleMs = 0
      await this.#sleep(settleMs, signal, false)
    }
    this.#isChanged = false
    return !signal.aborted
  }

  #changed(settleMs: number): void {
    this.#isChanged = true
    this.#settleMs = Math.max(this.#settleMs, settleMs)
    this.#wake?.()
  }

  /** @param endsOnChange whether a change ends the sleep */
  #sleep(ms: number, signal: AbortSignal, endsOnChange: boolean): Promise<void> {
    if (signal.aborted) return Promise.resolve()
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer)
        signal.removeEventListener('abort', done)
        this.#wake = undefined
        resolve()
      }
      const timer = setTimeout(done, ms)
      signal.addEventListener('abort', done, { once: true })
      if (endsOnChange) this.#wake = done
    })
  }
}
