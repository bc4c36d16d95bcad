import t from 'tap'
import { parseSocketInode } from '../../src/native/port-owner.ts'
import { parseQueueStatistics } from '../../src/native/queue-statistics.ts'

t.test('a line is a queue', async (t) => {
  const text = [
    '   87   4341     3 2   256    12     7     4711  1',
    '    0 3000612345     0 1     0     0     0        0  1',
    '',
  ].join('\n')
  t.same(parseQueueStatistics(text), [
    {
      queue: 87,
      portId: 4341,
      waiting: 3,
      copyMode: 'packet',
      copyRange: 256,
      dropped: 12,
      userDropped: 7,
      idSequence: 4711,
    },
    {
      queue: 0,
      portId: 3000612345,
      waiting: 0,
      copyMode: 'meta',
      copyRange: 0,
      dropped: 0,
      userDropped: 0,
      idSequence: 0,
    },
  ])
})

t.test('a negative port id is read as unsigned', async (t) => {
  t.equal(parseQueueStatistics('1 -4341 0 2 1 0 0 0 1')[0]?.portId, 4294962955)
})

t.test('an unknown copy mode is named so', async (t) => {
  t.equal(parseQueueStatistics('1 2 0 9 1 0 0 0 1')[0]?.copyMode, 'unknown')
})

t.test('lines of another shape are left out', async (t) => {
  t.same(parseQueueStatistics(''), [])
  t.same(parseQueueStatistics('queue portid waiting\n1 2 3\na b c d e f g h i\n'), [])
})

t.test('a port id leads to a socket', async (t) => {
  const text = [
    'sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode',
    '0000000000000000 0   4341       00000000 0        0        0     2        0        100',
    '0000000000000000 12  4341       00000000 0        0        0     2        0        200',
    '0000000000000000 12  3000612345 00000000 0        0        0     2        0        300',
  ].join('\n')
  t.equal(parseSocketInode(text, 4341), '200', 'of the netfilter protocol, not of another with the same number')
  t.equal(parseSocketInode(text, 3000612345), '300')
  t.equal(parseSocketInode(text, 1), undefined)
  t.equal(parseSocketInode('', 1), undefined)
})
