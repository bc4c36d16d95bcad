import { existsSync, readFileSync } from 'node:fs'
import type { RequestOptions } from 'node:https'
import { dirname, resolve } from 'node:path'
import type { KubeConfig } from '@kubernetes/client-node'
import { parse } from 'yaml'
import type { Access, ClusterChoice } from './access.ts'
import { kubeconfigOf, SERVICE_ACCOUNT_TOKEN } from './plain-access.ts'

/** What the process that reads credentials answers, once. */
export type FromCredentialsProcess = { readonly access: Access } | { readonly problem: string }

const answer = await readChoice(JSON.parse(process.argv[2]!) as ClusterChoice)
process.send!(answer, () => process.disconnect())

async function readChoice(choice: ClusterChoice): Promise<FromCredentialsProcess> {
  const { KubeConfig } = await import('@kubernetes/client-node')
  const config = new KubeConfig()
  try {
    const place = load(config, choice)
    if (choice.context !== undefined) config.setCurrentContext(choice.context)
    return { access: await accessOf(config, place) }
  } catch (error) {
    const subject = choice.kubeconfig ?? "the cluster's credentials"
    return { problem: `${subject}: ${(error as Error).message.trim()}` }
  }
}

/** Loads what is chosen, in kubectl's order; answers the file that it comes from. */
function load(config: KubeConfig, choice: ClusterChoice): string | undefined {
  const { kubeconfig } = choice
  const file = kubeconfigOf(choice)
  if (kubeconfig !== undefined) config.loadFromFile(kubeconfig)
  else if (file !== undefined) config.loadFromDefault()
  else if (process.env.KUBERNETES_SERVICE_HOST && existsSync(SERVICE_ACCOUNT_TOKEN)) config.loadFromCluster()
  else throw new Error('there is no kubeconfig, and this is no pod with a service account')
  return file
}

async function accessOf(config: KubeConfig, file: string | undefined): Promise<Access> {
  const name = config.getCurrentContext()
  if (!config.getContextObject(name)) {
    const known = config.getContexts().map((context) => context.name)
    throw new Error(`there is no context ${JSON.stringify(name ?? '')}; known: ${known.join(', ') || 'none'}`)
  }
  const cluster = config.getCurrentCluster()
  if (!cluster) throw new Error(`context ${JSON.stringify(name)} names no cluster that is there`)
  const { proxyUrl } = cluster
  if (proxyUrl !== undefined && !/^https?:/.test(proxyUrl)) {
    throw new Error(`proxy-url ${JSON.stringify(proxyUrl)} is no HTTP proxy: none other is supported`)
  }
  const options: RequestOptions = {}
  await config.applyToHTTPSOptions(options)
  const { ca, cert, key, rejectUnauthorized, servername, auth } = options
  const headers = { ...(options.headers as Record<string, string>) }
  if (auth) headers.Authorization = `Basic ${Buffer.from(auth).toString('base64')}`
  const tokenFile = tokenFileOf(config, file)
  return {
    server: cluster.server.replace(/\/+$/, ''),
    tls: {
      ...(ca && { ca: ca as Buffer }),
      ...(cert && { cert: cert as Buffer }),
      ...(key && { key: key as Buffer }),
      ...(rejectUnauthorized !== undefined && { rejectUnauthorized }),
      ...(servername && { servername }),
    },
    headers,
    ...(tokenFile !== undefined && { tokenFile }),
    ...(proxyUrl !== undefined && { proxy: proxyUrl }),
  }
}

/** The client knows a service account's token file, but not a kubeconfig's `tokenFile`. */
function tokenFileOf(config: KubeConfig, file: string | undefined): string | undefined {
  const user = config.getCurrentUser()
  const inCluster: unknown = user?.authProvider?.config?.tokenFile
  if (typeof inCluster === 'string') return inCluster
  if (file === undefined || !existsSync(file)) return undefined
  const { users } = parse(readFileSync(file, 'utf8')) as { users?: { name: string; user?: { tokenFile?: string } }[] }
  const path = users?.find(({ name }) => name === user?.name)?.user?.tokenFile
  return path === undefined ? undefined : resolve(dirname(file), path)
}
