import { openQueue } from '../../../src/native/queue.ts'
import { QUEUE } from './traffic.ts'

// Holds the queue until its input ends.
const queue = openQueue({ number: QUEUE, copyBytes: 64, capacity: 1, maxLength: 1, receiveBufferBytes: 0 })
process.stdout.write('bound\n')
process.stdin.resume().on('end', () => queue.close())
