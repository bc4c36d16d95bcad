import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { chmod, copyFile, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { run } from './command.ts'
import type { Programs } from './programs.ts'

/** How containers of an image start; as the Dockerfile instructions of these names. */
export interface ImageConfig {
  readonly entrypoint?: readonly string[]
  readonly command?: readonly string[]
  readonly env?: readonly string[]
}

/** What upstream's suites start in their pods. */
export const POD_IMAGE = 'registry.k8s.io/e2e-test-images/agnhost:2.63.0'
/** What containerd starts as each pod's sandbox. */
export const PAUSE_IMAGE = 'registry.k8s.io/pause:3.10.2'

const PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** Writes an archive, as `docker save` does, of an image with one layer: the contents of a folder. */
export async function archiveImage(
  names: readonly string[],
  root: string,
  archive: string,
  { entrypoint, command, env = [PATH] }: ImageConfig = {},
): Promise<void> {
  const work = await mkdtemp(join(tmpdir(), 'knp-image-'))
  try {
    const layer = join(work, 'layer.tar')
    await run(['tar', '--sort=name', '--mtime=@0', '--owner=0', '--group=0', '-C', root, '-cf', layer, '.'])
    const hash = createHash('sha256')
    await pipeline(createReadStream(layer), hash)
    const config = {
      architecture: process.arch === 'x64' ? 'amd64' : process.arch,
      os: 'linux',
      config: { Env: env, ...(entrypoint && { Entrypoint: entrypoint }), ...(command && { Cmd: command }) },
      rootfs: { type: 'layers', diff_ids: [`sha256:${hash.digest('hex')}`] },
    }
    await writeFile(join(work, 'config.json'), JSON.stringify(config))
    const manifest = [{ Config: 'config.json', RepoTags: names, Layers: ['layer.tar'] }]
    await writeFile(join(work, 'manifest.json'), JSON.stringify(manifest))
    await run(['tar', '-C', work, '-cf', archive, 'manifest.json', 'config.json', 'layer.tar'])
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

/** The image of a pod's sandbox. */
export async function archivePauseImage(programs: Programs, archive: string): Promise<void> {
  await withFolder(async (root) => {
    await copyFile(programs.path('pause'), join(root, 'pause'))
    await archiveImage([PAUSE_IMAGE], root, archive, { entrypoint: ['/pause'] })
  })
}

/** The image of the pods that connect and are connected to: agnhost, and a shell. */
export async function archivePodImage(programs: Programs, archive: string): Promise<void> {
  await withFolder(async (root) => {
    await copyFile(programs.path('agnhost'), join(root, 'agnhost.real'))
    await copyFile(programs.path('sctp-agnhost'), join(root, 'agnhost'))
    await mkdir(join(root, 'bin'))
    await mkdir(join(root, 'etc'))
    await mkdir(join(root, 'tmp'), { mode: 0o1777 })
    await copyFile((await run(['sh', '-c', 'command -v busybox'])).trim(), join(root, 'bin/busybox'))
    for (const name of ['sh', 'true', 'sleep', 'env', 'cat', 'ls', 'date', 'seq', 'ip', 'nc', 'wget', 'ping', 'grep']) {
      await symlink('busybox', join(root, 'bin', name))
    }
    // The suites call it by this name.
    await writeFile(join(root, 'bin/bash'), '#!/bin/sh\nexec /bin/sh "$@"\n')
    await chmod(join(root, 'bin/bash'), 0o755)
    const older = POD_IMAGE.replace(/:.*/, ':2.45')
    await archiveImage([POD_IMAGE, older], root, archive, { entrypoint: ['/agnhost'], command: ['pause'] })
  })
}

async function withFolder(use: (root: string) => Promise<void>): Promise<void> {
  const root = await mkdtemp(join(tmpdir(), 'knp-image-'))
  try {
    await chmod(root, 0o755)
    await use(root)
  } finally {
    await rm(root, { recursive: true, force: true })
  }
}
