import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { DEFAULT_CONNECTION_MASK, DEFAULT_PACKET_MASK, layoutMarks } from '../../../src/datapath/marks.ts'
import { parseAddress } from '../../../src/engine/index.ts'
import { FIELD_FAMILY, FIELD_MARK, openQueue, PACKET_FIELDS } from '../../../src/native/queue.ts'
import { defaultFailsafe } from '../../../src/ruleset/failsafe.ts'
import { Ruleset, type Wanted } from '../../../src/ruleset/ruleset.ts'
import type { OnFailure } from '../../../src/ruleset/text.ts'

/** What it is told, a JSON object a line; each is answered with a line. */
export type ListenerCommand =
  /** Makes the ruleset, with the addresses whose traffic is queued. */
  | { readonly op: 'install'; readonly subjects: readonly string[]; readonly stamp: number }
  /** Moves it to another generation, which decides otherwise about flows with these ends; without them, about all. */
  | {
      readonly op: 'update'
      readonly subjects: readonly string[]
      readonly stamp: number
      readonly recheck?: readonly string[]
    }
  /** Ends the recheck of all ends of all changes. */
  | { readonly op: 'endRecheck' }
  /** Takes what is queued, and holds it. */
  | { readonly op: 'take'; readonly timeoutMs: number }
  /** Answers all that it holds. */
  | { readonly op: 'answer'; readonly marks: readonly number[] }
  | { readonly op: 'counters' }
  /** The connections of this namespace, as /proc/net/nf_conntrack has them. */
  | { readonly op: 'connections' }

export interface HeldPacket {
  readonly family: number
  /** Unsigned. */
  readonly mark: number
}

// The real ruleset with a listener that answers when it is told to, and what it is told to.

const marks = layoutMarks(DEFAULT_PACKET_MASK, DEFAULT_CONNECTION_MASK)!
const queue = openQueue({ number: 100, copyBytes: 128, capacity: 64, maxLength: 1024, receiveBufferBytes: 1 << 20 })
const ruleset = new Ruleset({
  marks,
  onFailure: process.argv[3] as OnFailure,
  denyWith: 'drop',
  failsafe: defaultFailsafe,
  remember: JSON.parse(process.argv[2]!),
  queue: 100,
  queuesTotal: 1,
})

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify((await run(JSON.parse(line))) ?? null)}\n`)
}
queue.close()
ruleset.close()

function wantedBy({ subjects, stamp }: { readonly subjects: readonly string[]; readonly stamp: number }): Wanted {
  return { subjects: subjects.map((text) => parseAddress(text)!), answerStamp: stamp, host: undefined }
}

async function run(command: ListenerCommand): Promise<unknown> {
  switch (command.op) {
    case 'install':
      return ruleset.install(wantedBy(command))
    case 'update':
      return ruleset.update(wantedBy(command), {
        recheck: command.recheck?.map((text) => parseAddress(text)!) ?? 'everything',
      })
    case 'endRecheck':
      return ruleset.endRecheck(ruleset.rechecks.change)
    case 'take': {
      const count = queue.receive(command.timeoutMs)
      return Array.from({ length: count }, (_, i) => ({
        family: queue.packets[i * PACKET_FIELDS + FIELD_FAMILY]!,
        mark: queue.packets[i * PACKET_FIELDS + FIELD_MARK]! >>> 0,
      })) satisfies HeldPacket[]
    }
    case 'answer':
      queue.marks.set(command.marks.map((mark) => mark | 0))
      return queue.answer(command.marks.length)
    case 'counters':
      return ruleset.counters()
    case 'connections':
      return readFileSync('/proc/net/nf_conntrack', 'utf8')
  }
}
