import t from 'tap'
import { testQueue } from '../../conformance/queue.ts'
import { openDiverted } from './traffic.ts'

testQueue(t, openDiverted)
