// Runs test files one after the other in this process and prints one TAP document: where every process costs seconds.
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'

for (const file of process.argv.slice(2)) await import(pathToFileURL(resolve(file)).href)
// What a file allows itself would hold for all of them: whoever starts this knows how long it may take.
t.setTimeout(0)
