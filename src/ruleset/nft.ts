import { execFile } from 'node:child_process'
import { KnpError } from '../errors.ts'

/**
 * Runs nft on a script. `announce` is told the netlink port that nft's changes come from, its process id, before it can make
 * any; what it answers is called when nft has ended. Throws KnpError RULESET with nft's words, UNSUPPORTED_HOST where there
 * is no nft.
 */
export async function runNft(
  script: string,
  args: readonly string[] = [],
  announce: (portId: number) => () => void = () => () => {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      'nft',
      [...args, '-f', '-'],
      { env: { ...process.env, PATH: searchPath() } },
      (error, stdout, stderr) => {
        release?.()
        if (!error) resolve(stdout)
        else if (error.code === 'ENOENT') reject(missingNft())
        else
          reject(
            new KnpError('RULESET', `nft: ${stderr.trim() || error.message}`, {
              cause: error,
              hint: 'see `knp doctor`',
            }),
          )
      },
    )
    // nft has no script yet: it cannot have changed anything.
    const release = child.pid === undefined ? undefined : announce(child.pid)
    child.stdin?.on('error', () => {}) // nft that ends early says so by its exit status
    child.stdin?.end(script)
  })
}

/** nft lies in a folder that a user's PATH may not name. */
function searchPath(): string {
  return `${process.env.PATH ?? ''}:/usr/sbin:/sbin:/usr/local/sbin`
}

/** All rules of this network namespace, as nft prints them in JSON. Throws KnpError RULESET. */
export async function listRuleset(): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const options = { env: { ...process.env, PATH: searchPath() }, maxBuffer: 64 << 20 }
    execFile('nft', ['--json', 'list', 'ruleset'], options, (error, stdout, stderr) => {
      if (error) reject(new KnpError('RULESET', `nft: ${stderr.trim() || error.message}`, { cause: error }))
      else resolve(JSON.parse(stdout))
    })
  })
}

/** The version line of nft, or `undefined` where there is none. */
export async function nftVersion(): Promise<string | undefined> {
  return new Promise((resolve) => {
    execFile('nft', ['--version'], { env: { ...process.env, PATH: searchPath() } }, (error, stdout) =>
      resolve(error ? undefined : stdout.trim()),
    )
  })
}

function missingNft(): KnpError {
  return new KnpError('UNSUPPORTED_HOST', 'nft: command not found', { hint: 'install it: apt-get install nftables' })
}
