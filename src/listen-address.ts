import { isIPv4, isIPv6 } from 'node:net'

/** An IP address of this machine, and a TCP port. */
export interface ListenAddress {
  readonly host: string
  /** 1 to 65535. */
  readonly port: number
}

/** `127.0.0.1:9080`, `[::1]:9080`; `undefined` for what is none. */
export function parseListenAddress(text: string): ListenAddress | undefined {
  const [, v6, v4, digits = ''] = /^(?:\[([^\]%]+)\]|([\d.]+)):(\d{1,5})$/.exec(text) ?? []
  const port = Number(digits)
  if (port < 1 || port > 65535) return undefined
  if (v4 !== undefined && isIPv4(v4)) return { host: v4, port }
  if (v6 !== undefined && isIPv6(v6)) return { host: v6, port }
  return undefined
}

/** As `parseListenAddress` takes it. */
export function formatListenAddress({ host, port }: ListenAddress): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}
