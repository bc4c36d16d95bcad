#!/usr/bin/env node
const [major, minor] = process.versions.node.split('.').map(Number)
if (major < 22 || (major === 22 && minor < 19)) {
  process.stderr.write(`knp: Node.js ${process.versions.node} is too old: 22.19 or newer is needed\n`)
  process.exit(5)
}
const { execute } = await import('@oclif/core')
await execute({ dir: import.meta.url })
