import { Document, isScalar, visit } from 'yaml'
import type { Config } from '../config.ts'
import { formatDuration } from '../duration.ts'
import { printable } from './printable.ts'

/** The configuration as YAML that `--config` takes. */
export function formatConfig(config: Config): string {
  const document = new Document(asWritten(config), { aliasDuplicateObjects: false })
  visit(document.getIn(['marks'], true) as Document['contents'], (_key, node) => {
    if (isScalar(node) && typeof node.value === 'number') node.format = 'HEX'
  })
  return printable(document.toString())
}

/** Times as the file has them. */
function asWritten({ remember, holdMs, ...rest }: Config): object {
  const { allowedMs, deniedMs, size, isLogged } = remember
  return {
    ...rest,
    hold: formatDuration(holdMs),
    remember: { allowed: formatDuration(allowedMs), denied: formatDuration(deniedMs), size, log: isLogged },
  }
}

/** `knp.config/v1`. Masks are numbers. */
export function configJson(config: Config): object {
  return { schema: 'knp.config/v1', ...asWritten(config) }
}
