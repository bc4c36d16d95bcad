/** One measured value, as it is printed with `--json`. */
export interface Row {
  readonly scenario: string
  readonly metric: string
  readonly value: number
  readonly unit: string
  /** Smallest and largest of the repetitions whose median `value` is. */
  readonly spread?: readonly [number, number]
  /** `value` divided by the same metric of another scenario. */
  readonly ratioTo?: { readonly scenario: string; readonly value: number }
}

/** What every benchmark prints with `--json`. */
export interface Report {
  readonly schema: 'knp.bench/v1'
  readonly rows: readonly Row[]
}

/** Whether a value is as good as it has to be; `undefined` where nothing is asked of it. */
export type Judge = (row: Row) => boolean | undefined

/** Middle of the values; the mean of the middle two if their number is even. NaN without values. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2
}

/** A row for the repetitions of one measurement. */
export function summarize(scenario: string, metric: string, unit: string, values: readonly number[]): Row {
  return { scenario, metric, value: median(values), unit, spread: [Math.min(...values), Math.max(...values)] }
}

/**
 * The rows with `ratioTo` another scenario, where that has the same metric.
 * @param referenceOf which scenario a row is related to; none where it answers `undefined`
 */
export function relateTo(referenceOf: (row: Row) => string | undefined, rows: readonly Row[]): readonly Row[] {
  return rows.map((row) => {
    const reference = referenceOf(row)
    const other = rows.find((one) => one.scenario === reference && one.metric === row.metric)
    // Counts that should be zero, and differences lost in noise, have no ratio.
    if (!other || other === row || other.value <= 0 || row.value <= 0) return row
    return { ...row, ratioTo: { scenario: other.scenario, value: row.value / other.value } }
  })
}

/** One table: a line a metric, a column a scenario, each value with its spread and its ratio. */
export function formatTable(rows: readonly Row[], judge: Judge = () => undefined): string {
  const scenarios = [...new Set(rows.map((row) => row.scenario))]
  const metrics = [...new Set(rows.map((row) => row.metric))]
  const head = ['', 'unit', ...scenarios]
  const body = metrics.map((metric) => {
    const cells = scenarios.map((scenario) => {
      const row = rows.find((one) => one.scenario === scenario && one.metric === metric)
      return row ? formatCell(row, judge(row)) : '-'
    })
    return [metric, rows.find((row) => row.metric === metric)?.unit ?? '', ...cells]
  })
  const widths = head.map((_, column) => Math.max(...[head, ...body].map((line) => line[column]?.length ?? 0)))
  const lines = [head, ...body].map((line) =>
    line
      .map((cell, column) => (column < 2 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('  ')
      .trimEnd(),
  )
  const isJudged = rows.some((row) => judge(row) !== undefined)
  const marks = isJudged ? '; ✓: as good as it has to be; ✗: not' : ''
  const references = referencesText(rows)
  const legend = references === '' ? [] : ['', `median (smallest-largest); ×: relative to ${references}${marks}`]
  return [...lines, ...legend, ''].join('\n')
}

/** What ratios are to: one scenario, or for each column its own. */
function referencesText(rows: readonly Row[]): string {
  const pairs = rows.flatMap(({ scenario, ratioTo }) => (ratioTo ? [[scenario, ratioTo.scenario] as const] : []))
  const references = new Map(pairs)
  const [only, ...others] = new Set(references.values())
  if (others.length === 0) return only ?? ''
  return [...references].map(([scenario, reference]) => `${reference} (${scenario})`).join(', ')
}

function formatCell(row: Row, isGood: boolean | undefined): string {
  const spread =
    row.spread && row.spread[0] < row.spread[1]
      ? ` (${formatNumber(row.spread[0])}-${formatNumber(row.spread[1])})`
      : ''
  const ratio = row.ratioTo ? ` ×${row.ratioTo.value.toFixed(2)}` : ''
  const mark = isGood === undefined ? '' : isGood ? ' ✓' : ' ✗'
  return `${formatNumber(row.value)}${spread}${ratio}${mark}`
}

function formatNumber(value: number): string {
  return Number.isInteger(value) || Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3)
}
