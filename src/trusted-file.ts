import { realpathSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { KnpError } from './errors.ts'

/** What a file is to knp, for messages. */
export interface FileRole {
  /** With its article. */
  readonly name: string
  /** What to do where the file cannot be read. */
  readonly hint: string
}

/**
 * Answers the path without links, so that what is checked is what is read. Throws KnpError INVALID_CONFIG where the file
 * cannot be read, or others than root and the user who runs knp could have written it: by its mode, or in its folder.
 * @param path absolute
 */
export function requireTrusted(path: string, role: FileRole): string {
  try {
    const real = realpathSync(path)
    const file = statSync(real)
    if (!file.isFile()) throw new KnpError('INVALID_CONFIG', `${path}: not a file`, { hint: role.hint })
    for (const place of [real, dirname(real)]) {
      const { uid, mode } = place === real ? file : statSync(place)
      if (uid !== 0 && uid !== process.geteuid?.())
        throw new KnpError('INVALID_CONFIG', `${path}: not trusted: ${place} belongs to user ${uid}`, {
          hint: `only root and the user who runs knp may own ${role.name} and its folder: chown root ${place}`,
        })
      if ((mode & 0o022) !== 0) {
        const octal = (mode & 0o7777).toString(8)
        throw new KnpError(
          'INVALID_CONFIG',
          `${path}: not trusted: group or others may write ${place} (mode ${octal})`,
          {
            hint: `chmod go-w ${place}`,
          },
        )
      }
    }
    return real
  } catch (error) {
    throw error instanceof KnpError ? error : unreadableFile(path, error, role)
  }
}

/** The error for a file that is not there or cannot be read. */
export function unreadableFile(path: string, cause: unknown, { hint }: FileRole): KnpError {
  const { code, message } = cause as NodeJS.ErrnoException
  const reason = code === 'ENOENT' ? 'no such file' : code === 'EACCES' ? 'permission denied' : message
  return new KnpError('INVALID_CONFIG', `${path}: ${reason}`, { cause, hint })
}
