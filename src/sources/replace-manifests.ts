import { copyFile, mkdir, readdir, rename, rm, stat } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { KnpError } from '../errors.ts'
import { isManifestName } from './manifest.ts'

/**
 * Makes the manifests below `target` those below `source`, file by file; files of other kinds are left alone. What stood in
 * `target` is kept in `backup`, which is emptied first. Throws KnpError UNREADABLE_SOURCE where one is no folder.
 */
export async function replaceManifests(target: string, source: string, backup: string): Promise<void> {
  const [former, wanted] = [await manifestsBelow(target), await manifestsBelow(source)]
  // `source` may be an older backup: it is read before the new one takes its place.
  const staged = `${backup}.new`
  await rm(staged, { recursive: true, force: true })
  await mkdir(staged, { recursive: true, mode: 0o700 })
  for (const name of former) await place(join(target, name), join(staged, name))
  for (const name of wanted) await place(join(source, name), join(target, name))
  for (const name of former) if (!wanted.includes(name)) await rm(join(target, name))
  await rm(backup, { recursive: true, force: true })
  await rename(staged, backup)
}

/** Copies a file into place whole: whoever reads the folder meanwhile sees the former file or the new one. */
async function place(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true })
  const part = join(dirname(to), `.${process.pid}.part`)
  await copyFile(from, part)
  await rename(part, to)
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
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .filter(isManifestName)
}
