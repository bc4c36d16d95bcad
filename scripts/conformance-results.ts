// What upstream's suites report, and how docs/conformance.md tells it.

/** A test of a suite and what became of it. */
export interface SpecResult {
  readonly name: string
  readonly result: 'passed' | 'failed' | 'skipped'
  readonly seconds: number
}

/** A whole run of a suite. */
export interface SuiteRun {
  /** Tells the runs of a document apart: `netpol-iptables`. */
  readonly key: string
  readonly title: string
  /** Of the suite: its module and version. */
  readonly version: string
  /** What it ran on: programs and kernel, with versions. */
  readonly platform: string
  /** `2026-11-23` */
  readonly date: string
  /** The commit of knp. */
  readonly commit: string
  readonly results: readonly SpecResult[]
}

interface GinkgoSpec {
  readonly LeafNodeType: string
  readonly LeafNodeText: string
  readonly ContainerHierarchyTexts: readonly string[] | null
  readonly State: string
  /** In nanoseconds. */
  readonly RunTime: number
}

/** The specs that were to run, of a report that ginkgo has written as JSON; those that the focus left out are not. */
export function readGinkgoReport(report: unknown): SpecResult[] {
  const suites = report as readonly { readonly SpecReports: readonly GinkgoSpec[] }[]
  return suites
    .flatMap(({ SpecReports }) => SpecReports)
    .filter(({ LeafNodeType, State }) => LeafNodeType === 'It' && State !== 'skipped' && State !== 'pending')
    .map(({ ContainerHierarchyTexts, LeafNodeText, State, RunTime }) => ({
      name: [...(ContainerHierarchyTexts ?? []), LeafNodeText].join(' '),
      result: State === 'passed' ? 'passed' : 'failed',
      seconds: RunTime / 1e9,
    }))
}

/** The tests without subtests of what `go test -v` has printed, in the order in which it tells of them. */
export function readGoTests(text: string): SpecResult[] {
  const words = { PASS: 'passed', FAIL: 'failed', SKIP: 'skipped' } as const
  const ended = [...text.matchAll(/^ *--- (PASS|FAIL|SKIP): (\S+) \(([\d.]+)s\)$/gm)].map(
    ([, word, name, seconds]) => ({
      name: name!,
      result: words[word as keyof typeof words],
      seconds: Number(seconds),
    }),
  )
  // One that began and has not ended: the program has crashed, or its time was over.
  const names = new Set(ended.map(({ name }) => name))
  const begun = [...text.matchAll(/^=== RUN +(\S+)$/gm)].map(([, name]) => name!)
  const lost = begun.filter((name) => !names.has(name)).map((name) => ({ name, result: 'failed', seconds: 0 }) as const)
  const all = [...ended, ...lost]
  return all.filter(({ name }) => !all.some((other) => other.name.startsWith(`${name}/`)))
}

/** The section of the document that tells of a run, between two marks that say which it is. */
export function renderSection({ key, title, version, platform, date, commit, results }: SuiteRun): string {
  const count = (wanted: SpecResult['result']) => results.filter(({ result }) => result === wanted).length
  const [passed, failed, skipped] = [count('passed'), count('failed'), count('skipped')]
  // Suites run their tests in an order of the moment.
  const lines = results
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    .map(({ name, result, seconds }) => `| ${escapeCell(name)} | ${result} | ${Math.round(seconds)} |`)
  return [
    `<!-- ${key} -->`,
    `## ${title}`,
    '',
    `**${passed} passed, ${failed} failed, ${skipped} skipped.** ${date}, knp ${commit}; ${version}; ${platform}.`,
    '',
    '| test | result | seconds |',
    '|---|---|---|',
    ...lines,
    `<!-- end of ${key} -->`,
  ].join('\n')
}

/** Puts a section into the place of the one with the same key, or behind the last one. */
export function replaceSection(document: string, key: string, section: string): string {
  const [begin, end] = [`<!-- ${key} -->`, `<!-- end of ${key} -->`]
  const at = document.indexOf(begin)
  const to = document.indexOf(end)
  if (at < 0 || to < at) return `${document.trimEnd()}\n\n${section}\n`
  return document.slice(0, at) + section + document.slice(to + end.length)
}

function escapeCell(text: string): string {
  return text.replaceAll('|', '\\|')
}
