import { existsSync, readFileSync } from 'node:fs'
import { isIPv6 } from 'node:net'
import { homedir } from 'node:os'
import { delimiter, dirname, join, resolve } from 'node:path'
import { parse } from 'yaml'
import type { Access, ClusterChoice } from './access.ts'

const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount'

/** The service account of the pod that this runs in. */
export const SERVICE_ACCOUNT_TOKEN = join(SERVICE_ACCOUNT, 'token')

const clusterFields = [
  'server',
  'certificate-authority',
  'certificate-authority-data',
  'insecure-skip-tls-verify',
  'tls-server-name',
  'proxy-url',
]
const userFields = [
  'token',
  'tokenFile',
  'client-certificate',
  'client-certificate-data',
  'client-key',
  'client-key-data',
  'username',
  'password',
]

/** The kubeconfig that kubectl would take; `undefined` where there is none. */
export function kubeconfigOf({ kubeconfig }: ClusterChoice): string | undefined {
  const usual = join(homedir(), '.kube', 'config')
  return kubeconfig ?? (process.env.KUBECONFIG || (existsSync(usual) ? usual : undefined))
}

/**
 * How the API server is reached where that stands as it is in a service account, or in a kubeconfig: no program has to be
 * asked, and the start of the firewall not to wait half a second for the Kubernetes client. `undefined` for all else: the
 * client reads it, or says what is wrong with it.
 */
export function readPlainAccess(choice: ClusterChoice): Access | undefined {
  try {
    const file = kubeconfigOf(choice)
    return file === undefined ? ofServiceAccount(choice) : ofKubeconfig(file, choice.context)
  } catch {
    return undefined
  }
}

function ofServiceAccount({ context }: ClusterChoice): Access | undefined {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = process.env
  // On these ports the client speaks without TLS.
  if (!host || !port || ['80', '8080', '8001'].includes(port) || context !== undefined) return undefined
  if (!existsSync(SERVICE_ACCOUNT_TOKEN)) return undefined
  return {
    server: `https://${isIPv6(host) ? `[${host}]` : host}:${port}`,
    tls: { ca: readFileSync(join(SERVICE_ACCOUNT, 'ca.crt')) },
    headers: {},
    tokenFile: SERVICE_ACCOUNT_TOKEN,
  }
}

function ofKubeconfig(file: string, chosen: string | undefined): Access | undefined {
  if (file.includes(delimiter)) return undefined
  const config = mappingOf(parse(readFileSync(file, 'utf8')))
  const context = named(config?.contexts, chosen ?? config?.['current-context'], 'context')
  const cluster = plainFields(named(config?.clusters, context?.cluster, 'cluster'), clusterFields)
  const user = plainFields(named(config?.users, context?.user, 'user'), userFields)
  if (!cluster || !user) return undefined
  const { server, 'proxy-url': proxy, 'tls-server-name': servername, 'insecure-skip-tls-verify': isInsecure } = cluster
  if (!server?.startsWith('https://') || (proxy !== undefined && !/^https?:/.test(proxy))) return undefined
  const folder = dirname(file)
  const ca = bytesOf(cluster, 'certificate-authority', folder)
  const cert = bytesOf(user, 'client-certificate', folder)
  const key = bytesOf(user, 'client-key', folder)
  const { token, tokenFile, username, password } = user
  const basic = username && `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`
  const authorization = basic || (token && `Bearer ${token}`)
  return {
    server: server.replace(/\/+$/, ''),
    tls: {
      ...(ca && { ca }),
      ...(cert && { cert }),
      ...(key && { key }),
      ...(isInsecure === 'true' && { rejectUnauthorized: false }),
      ...(servername && { servername }),
    },
    headers: authorization ? { Authorization: authorization } : {},
    ...(tokenFile !== undefined && { tokenFile: resolve(folder, tokenFile) }),
    ...(proxy !== undefined && { proxy }),
  }
}

type Mapping = Readonly<Record<string, unknown>>

function mappingOf(value: unknown): Mapping | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Mapping) : undefined
}

/** The first of this name, as kubectl takes it. */
function named(list: unknown, name: unknown, kind: string): Mapping | undefined {
  if (!Array.isArray(list) || typeof name !== 'string') return undefined
  return mappingOf(list.map(mappingOf).find((item) => item?.name === name)?.[kind])
}

/** As texts; `undefined` where there is any other field, or what is no text. */
function plainFields(mapping: Mapping | undefined, known: readonly string[]): Record<string, string> | undefined {
  if (!mapping) return undefined
  const texts: Record<string, string> = {}
  for (const [name, value] of Object.entries(mapping)) {
    const isPlain = typeof value === 'string' || (typeof value === 'boolean' && name === 'insecure-skip-tls-verify')
    if (!known.includes(name) || !isPlain) return undefined
    texts[name] = String(value)
  }
  return texts
}

/** What a field says, or the file that it names: that counts where both are there. */
function bytesOf(fields: Record<string, string>, name: string, folder: string): Buffer | undefined {
  const file = fields[name]
  if (file) return readFileSync(resolve(folder, file))
  const data = fields[`${name}-data`]
  return data ? Buffer.from(data, 'base64') : undefined
}
