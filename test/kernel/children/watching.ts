import { once } from 'node:events'
import { watchKernel } from '../../../src/native/kernel-watch.ts'

// Ends, in the way it is told, when its input does.
const watch = await watchKernel({ table: 'knp' }, { tableChanged() {}, addressesChanged() {}, failed() {} })
process.stdout.write('watching\n')
process.stdin.resume()
await once(process.stdin, 'end')
const how = process.argv[2]
if (how === 'exit') process.exit(0)
if (how === 'throw') throw new Error('as asked')
await watch.stop()
