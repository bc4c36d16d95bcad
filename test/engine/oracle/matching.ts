import type { OracleFlow, OracleWorld, PlainSelector, PlainWorkload } from './objects.ts'

/** What policies of every kind ask of labels, addresses and ports. */

export function selectorMatches(
  { matchLabels, matchExpressions }: PlainSelector,
  labels: Readonly<Record<string, string>>,
): boolean {
  for (const [key, value] of Object.entries(matchLabels ?? {})) if (labels[key] !== value) return false
  for (const { key, operator, values } of matchExpressions ?? []) {
    const value = labels[key]
    if (operator === 'In' && !(value !== undefined && values!.includes(value))) return false
    if (operator === 'NotIn' && value !== undefined && values!.includes(value)) return false
    if (operator === 'Exists' && value === undefined) return false
    if (operator === 'DoesNotExist' && value !== undefined) return false
  }
  return true
}

/** A namespace carries its name as a label, written or not, and exists where only something in it mentions it. */
export function namespaceMatches({ namespaces }: OracleWorld, selector: PlainSelector, name: string): boolean {
  const written = namespaces.find(({ metadata }) => metadata.name === name)?.metadata.labels
  return selectorMatches(selector, { ...written, 'kubernetes.io/metadata.name': name })
}

/** Whether a selector asks for a label that must be there. */
export function isPositive({ matchLabels, matchExpressions }: PlainSelector): boolean {
  if (Object.keys(matchLabels ?? {}).length > 0) return true
  return (matchExpressions ?? []).some(({ operator }) => operator === 'In' || operator === 'Exists')
}

/** Whether the workload that is the destination gives the flow's port this name, for its protocol. */
export function hasNamedPort(destination: PlainWorkload, name: string, flow: OracleFlow): boolean {
  if (destination.kind === 'HostEndpoint') {
    return (destination.spec.ports ?? []).some(
      (each) => each.name === name && each.port === flow.port && (each.protocol ?? 'TCP') === flow.protocol,
    )
  }
  const { containers, initContainers } = destination.spec
  const serving = [...containers, ...initContainers.filter(({ restartPolicy }) => restartPolicy === 'Always')]
  return serving.some(({ ports }) =>
    ports?.some(
      (each) => each.name === name && each.containerPort === flow.port && (each.protocol ?? 'TCP') === flow.protocol,
    ),
  )
}

/** A block holds addresses of its own family only. */
export function inBlock(address: string, cidr: string): boolean {
  const [base, length] = cidr.split('/')
  return isV6(address) === isV6(base!) && bitsOf(address).startsWith(bitsOf(base!).slice(0, Number(length)))
}

export function isV6(address: string): boolean {
  return address.includes(':')
}

/** Whether two texts mean one address. */
export function sameAddress(a: string, b: string): boolean {
  return isV6(a) === isV6(b) && bitsOf(a) === bitsOf(b)
}

function bitsOf(address: string): string {
  if (!isV6(address))
    return address
      .split('.')
      .map((part) => binary(Number(part), 8))
      .join('')
  const [head, tail] = address.split('::').map((half) => half.split(':').filter((group) => group !== ''))
  const zeros = tail ? Array.from({ length: 8 - head!.length - tail.length }, () => '0') : []
  return [...head!, ...zeros, ...(tail ?? [])].map((group) => binary(Number.parseInt(group, 16), 16)).join('')
}

function binary(value: number, width: number): string {
  return value.toString(2).padStart(width, '0')
}
