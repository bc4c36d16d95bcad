import type { Network } from '../../src/lab/network.ts'

/** What an HTTP server of the router answers. */
export interface Got {
  /** 0 where nobody answers. */
  readonly status: number
  readonly body: string
}

const script = `
const [url] = process.argv.slice(1)
const answer = await fetch(url).then(
  async (response) => ({ status: response.status, body: await response.text() }),
  (error) => ({ status: 0, body: String(error.cause ?? error) }),
)
process.stdout.write(JSON.stringify(answer))
`

/** Asks for a path at the router's loopback, as a probe of this machine does. */
export async function get(network: Network, port: number, path: string, host = '127.0.0.1'): Promise<Got> {
  const url = `http://${host}:${port}${path}`
  const argv = [process.execPath, '--input-type=module', '--eval', script, url]
  const { stdout } = await network.exec(network.router, argv, { timeoutMs: 10_000 })
  return JSON.parse(stdout) as Got
}
