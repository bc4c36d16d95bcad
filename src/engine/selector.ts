import type { ObjectReader } from './object-reader.ts'
import type { Labels } from './objects.ts'

export type Operator = 'In' | 'NotIn' | 'Exists' | 'DoesNotExist'

/** One condition of a selector. `matchLabels` become `In` with one value. */
export interface Requirement {
  readonly key: string
  readonly operator: Operator
  readonly values: readonly string[]
}

/** A LabelSelector (meta/v1): all requirements must hold; none at all selects everything. */
export interface LabelSelector {
  readonly requirements: readonly Requirement[]
}

export const everything: LabelSelector = { requirements: [] }

/** Reads a LabelSelector strictly; throws InvalidObject. An absent one is empty and selects everything. */
export function readSelector(reader: ObjectReader): LabelSelector {
  const field = reader.fields(['matchLabels', 'matchExpressions'])
  const requirements: Requirement[] = []
  for (const [key, value] of field('matchLabels').labels()) requirements.push({ key, operator: 'In', values: [value] })
  for (const expression of field('matchExpressions').items()) {
    const part = expression.fields(['key', 'operator', 'values'])
    const key = part('key').labelKey(part('key').string())
    const operator = part('operator').oneOf(['In', 'NotIn', 'Exists', 'DoesNotExist'])
    const values = part('values')
      .items()
      .map((item) => item.labelValue())
    const takesValues = operator === 'In' || operator === 'NotIn'
    if (takesValues && values.length === 0) expression.fail(`operator ${operator} needs values`)
    if (!takesValues && values.length > 0) part('values').fail(`operator ${operator} takes no values`)
    requirements.push({ key, operator, values })
  }
  return { requirements }
}

export function selects(selector: LabelSelector, labels: Labels): boolean {
  return selector.requirements.every((requirement) => isMet(requirement, labels))
}

/**
 * | label    | In          | NotIn           | Exists | DoesNotExist |
 * | -------- | ----------- | --------------- | ------ | ------------ |
 * | missing  | no          | yes             | no     | yes          |
 * | present  | value in it | value not in it | yes    | no           |
 */
export function isMet({ key, operator, values }: Requirement, labels: Labels): boolean {
  const value = labels.get(key)
  switch (operator) {
    case 'In':
      return value !== undefined && values.includes(value)
    case 'NotIn':
      return value === undefined || !values.includes(value)
    case 'Exists':
      return value !== undefined
    case 'DoesNotExist':
      return value === undefined
  }
}

/** `app=api`, `app in (a, b)`, `app`, `!app`: the notation of kubectl. */
export function formatRequirement({ key, operator, values }: Requirement): string {
  switch (operator) {
    case 'In':
      return values.length === 1 ? `${key}=${values[0]}` : `${key} in (${values.join(', ')})`
    case 'NotIn':
      return values.length === 1 ? `${key}!=${values[0]}` : `${key} notin (${values.join(', ')})`
    case 'Exists':
      return key
    case 'DoesNotExist':
      return `!${key}`
  }
}

/** A text that is equal for selectors that select the same. */
export function selectorKey(selector: LabelSelector): string {
  return selector.requirements
    .map(({ key, operator, values }) => JSON.stringify([key, operator, [...values].sort()]))
    .sort()
    .join()
}
