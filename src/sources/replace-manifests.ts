import { chmod, copyFile, mkdir, readdir, rename, rm, stat } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { KnpError } from '../errors.ts'
import { isManifestName } from './manifest.ts'

/**
 * Makes the manifests below `target` those below `source`, file by file; files of other kinds are left alone. What stood in
 * `target` is kept in `backup`, which is emptied first. Throws KnpError UNREADABLE_SOURCE where one is no folder, and the
 * system's error (ENOSPC, EACCES, EROFS): then both are what they were, as far as the disk lets them.
 */
export async function replaceManifests(target: string, source: string, backup: string): Promise<void> {
  const [former, wanted] = [await manifestsBelow(target), await manifestsBelow(source)]
  // `source` may be an older backup: it is read before the new one takes its place.
  const staged = `${backup}.new`
  await rm(staged, { recursive: true, force: true })
  await mkdir(staged, { recursive: true, mode: 0o700 })
  const placed: string[] = []
  try {
    for (const name of former) await place(join(target, name), join(staged, name))
    for (const name of wanted) {
      await place(join(source, name), join(target, name))
      placed.push(name)
    }
    for (const name of former) if (!wanted.includes(name)) await rm(join(target, name))
  } catch (error) {
    // The firewall reads this folder: half of one picture and half of the other would be neither.
    for (const name of placed) if (!former.includes(name)) await rm(join(target, name))
    if (placed.length > 0) for (const name of former) await place(join(staged, name), join(target, name))
    await rm(staged, { recursive: true, force: true })
    throw error
  }
  await rm(backup, { recursive: true, force: true })
  await rename(staged, backup)
}

const OTHERS_READ = 0o644

/** Copies a file into place whole: whoever reads the folder meanwhile sees the former file or the new one. */
async function place(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true })
  const part = join(dirname(to), `.${process.pid}.part`)
  try {
    await copyFile(from, part)
    // A folder that others may write to must not make policies that they may write to.
    const { mode } = await stat(part)
    await chmod(part, mode & OTHERS_READ)
    await rename(part, to)
  } catch (error) {
    await rm(part, { force: true })
    throw error
  }
}

/** Throws KnpError UNREADABLE_SOURCE where it is no folder. */
export async function requireFolder(folder: string): Promise<void> {
  const isFolder = await stat(folder).then(
    (found) => found.isDirectory(),
    () => false,
  )
  if (!isFolder)
    throw new KnpError('UNREADABLE_SOURCE', `${folder}: no folder`, {
      hint: 'policies are applied from one folder to another',
    })
}

async function manifestsBelow(folder: string): Promise<string[]> {
  await requireFolder(folder)
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  const names = entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .filter(isManifestName)
  const found: string[] = []
  for (const name of names) if (await isFile(join(folder, name))) found.push(name)
  return found
}

/** False for a link that leads nowhere: whoever reads the folder takes it for no file either. */
async function isFile(path: string): Promise<boolean> {
  return await stat(path).then(
    (found) => found.isFile(),
    () => false,
  )
}
