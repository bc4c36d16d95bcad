// What is made of the commands for people and shells: packaging/man/knp.1 and packaging/completion; with a path, oclif's manifest
// is written there instead, which spares a start the search for commands. Needs dist.
import { mkdir, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { Plugin } from '@oclif/core'
import { bashCompletion, type CommandEntry, fishCompletion, manualPage, zshCompletion } from './command-reference.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const plugin = new Plugin({ root, ignoreManifest: true, respectNoCacheDefault: true, errorOnManifestCreate: true })
await plugin.load()
const [, , manifestPath] = process.argv

if (manifestPath !== undefined) await writeFile(manifestPath, JSON.stringify(plugin.manifest))
else {
  const commands = Object.values(plugin.manifest.commands) as unknown as readonly CommandEntry[]
  const program = {
    name: 'knp',
    version: plugin.version,
    description: 'a firewall that decides each new connection by Kubernetes network policy',
    commands: [...commands].sort((a, b) => (a.id < b.id ? -1 : 1)),
  }
  const texts = [
    ['man/knp.1', manualPage],
    ['completion/knp.bash', bashCompletion],
    ['completion/_knp', zshCompletion],
    ['completion/knp.fish', fishCompletion],
  ] as const
  for (const [path, textOf] of texts) {
    const file = new URL(`../packaging/${path}`, import.meta.url)
    await mkdir(new URL('.', file), { recursive: true })
    await writeFile(file, textOf(program))
  }
}
