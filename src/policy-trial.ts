import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import type { PolicyObject, Snapshot } from './engine/index.ts'
import { KnpError } from './errors.ts'
import { FilesSource } from './sources/files.ts'
import type { ObjectStore } from './sources/object-store.ts'
import type { Source } from './sources/source.ts'

/** Policies on trial. */
export interface PendingTrial {
  readonly folder: string
  readonly endsAtMs: number
}

/** What a trial needs of the firewall. */
export interface TrialOptions {
  readonly store: ObjectStore
  readonly sources: readonly Source[]
  /** Where what a confirmation replaces is kept. */
  readonly stateDir: string
  /** Brings the store's picture into force; resolves when it is. */
  readonly bringIntoForce: () => Promise<void>
  /** Told when a trial has ended for want of confirmation. */
  readonly onExpiry: (message: string) => void
}

/**
 * Policies that are in force until confirmed, and go back by themselves. They stand in the place of the first source that
 * has files; nothing is written before they are confirmed, so a restart goes back too.
 */
export class PolicyTrial {
  readonly #options: TrialOptions
  #pending: (PendingTrial & { readonly objects: readonly PolicyObject[]; readonly timer: NodeJS.Timeout }) | undefined

  constructor(options: TrialOptions) {
    this.#options = options
  }

  get pending(): PendingTrial | undefined {
    if (!this.#pending) return undefined
    const { folder, endsAtMs } = this.#pending
    return { folder, endsAtMs }
  }

  /**
   * Resolves when the manifests of `folder` are in force. One that runs already is replaced.
   * @param approve throws where the picture must not come into force; then everything stays as it is
   *
   * Throws KnpError INVALID_MANIFEST, UNREADABLE_SOURCE, USAGE.
   */
  async begin(folder: string, confirmMs: number, approve: (picture: Snapshot) => void): Promise<PendingTrial> {
    const { store, bringIntoForce, onExpiry } = this.#options
    const source = this.#writableSource()
    await source.folder!.requireReplaceable(folder)
    const objects = await readObjects(folder)
    approve(store.snapshotWith(source.name, objects))
    clearTimeout(this.#pending?.timer)
    store.beginTrial(source.name, objects)
    const timer = setTimeout(() => {
      const message = `${folder} was not confirmed in time: the former policies are in force again`
      void this.#end().then(() => onExpiry(message))
    }, confirmMs)
    const pending = { folder, endsAtMs: Date.now() + confirmMs }
    this.#pending = { ...pending, objects, timer }
    await bringIntoForce()
    return pending
  }

  /**
   * Keeps what is on trial: its files become the source's own. Throws KnpError NOTHING_PENDING; USAGE, INVALID_MANIFEST and
   * UNREADABLE_SOURCE where the folder is not what was applied any more: the trial goes on.
   */
  async confirm(): Promise<{ readonly folder: string }> {
    if (!this.#pending) {
      const hint = 'it may have gone back already; see `knp status`'
      throw new KnpError('NOTHING_PENDING', 'nothing waits to be confirmed', { hint })
    }
    const { folder, objects } = this.#pending
    if (!isDeepStrictEqual(await readObjects(folder), objects)) {
      const hint = 'try what it is now: `knp apply` it again'
      throw new KnpError('USAGE', `${folder}: has changed since it was applied`, { hint })
    }
    await this.#replaceFiles(folder)
    await this.#end()
    return { folder }
  }

  /** Ends a trial at once, or else goes back to what the last confirmation replaced. Throws KnpError NOTHING_PENDING. */
  async rollback(): Promise<{ readonly undone: 'trial' | 'confirmed' }> {
    const undone = this.#pending ? 'trial' : 'confirmed'
    if (undone === 'confirmed') {
      const former = this.#formerFolder()
      if (!existsSync(former)) {
        const hint = 'only what `knp confirm` replaced can be brought back'
        throw new KnpError('NOTHING_PENDING', 'there is nothing to go back to', { hint })
      }
      await this.#replaceFiles(former)
    }
    await this.#end()
    return { undone }
  }

  /** Forgets the time of a trial; for when the firewall ends. */
  stop(): void {
    clearTimeout(this.#pending?.timer)
  }

  async #end(): Promise<void> {
    this.stop()
    this.#pending = undefined
    this.#options.store.endTrial()
    await this.#options.bringIntoForce()
  }

  #writableSource(): Source {
    const source = this.#options.sources.find(({ folder }) => folder !== undefined)
    if (!source) throw new KnpError('USAGE', 'no source of the running firewall has files')
    return source
  }

  #formerFolder(): string {
    return join(this.#options.stateDir, 'former-policies')
  }

  async #replaceFiles(folder: string): Promise<void> {
    const source = this.#writableSource()
    this.#options.store.apply(source.name, await source.folder!.replace(folder, this.#formerFolder()))
  }
}

async function readObjects(folder: string): Promise<readonly PolicyObject[]> {
  const files = new FilesSource(folder, undefined, 'within')
  await files.read()
  return files.objects
}
