// Reads a TAP file, of one run or several, repeats what failed and was skipped, and prints the totals as one plain line. Fails
// where nothing ran, and in CI where a test was skipped: a test that does not run shows nothing.
import { readFileSync } from 'node:fs'

const text = readFileSync(process.argv[2]!, 'utf8')
const totals = [...text.matchAll(/^# \{([^}]*)\}$/gm)].map(([, counts]) => counts!)
const count = (name: string) =>
  totals.reduce((sum, counts) => sum + Number(new RegExp(`\\b${name}: (\\d+)`).exec(counts)?.[1] ?? 0), 0)
const [passed, failed, skipped] = [count('pass'), count('fail'), count('skip')]

/** A line of a failed test with the indented YAML that says why. */
const failures = /^ *not ok \d+ .*\n(?: *---\n(?: .*\n|\n)*? *\.\.\.\n)?/gm
for (const [failure] of text.matchAll(failures)) console.log(failure.trimEnd())
for (const [, name] of text.matchAll(/^ *ok \d+ - (.*# SKIP.*)$/gm)) console.log(`skipped: ${name}`)
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`)
if (passed === 0 || failed > 0 || (process.env.CI && skipped > 0)) process.exitCode = 1
