import { createInterface } from 'node:readline'
import { type ApiObject, ApiServer } from '../../sources/kubernetes/api-server.ts'

/** What it is told, a JSON object a line; each is answered with a line. */
export type ApiServerCommand =
  | { readonly op: 'put'; readonly object: ApiObject }
  /** Answers how many connections there were. */
  | { readonly op: 'dropConnections' }

// The API server of the tests at all addresses of a namespace, on the port that it is given.

const server = await ApiServer.start('::', Number(process.argv[2]))
process.stdout.write('null\n')
for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(run(JSON.parse(line)) ?? null)}\n`)
}
await server.down()

function run(command: ApiServerCommand): unknown {
  switch (command.op) {
    case 'put':
      return server.put(command.object)
    case 'dropConnections':
      return server.dropConnections()
  }
}
