import type { Affected, CompiledPolicy, SubjectChange } from './engine/index.ts'
import { joinChanges, type PodChange, type PodView } from './pod-addresses.ts'
import type { Failsafe } from './ruleset/failsafe.ts'
import type { Change, Wanted } from './ruleset/ruleset.ts'

/** What the table is to hold for compiled policies. Its lists of addresses are made when they are asked for. */
export function wantedBy(compiled: CompiledPolicy, answerStamp: number, pods: PodView, failsafe: Failsafe): Wanted {
  const { host } = compiled
  return {
    // There may be very many, and a change of a few does not ask.
    get subjects() {
      return [...compiled.subjects, ...pods.unknown]
    },
    areSubjectsOwn: compiled.areSubjectsOwnPods && !pods.isOwnTaken,
    pods: pods.places.blocks,
    get known() {
      return pods.known
    },
    failsafe,
    answerStamp,
    // A host that no policy selects is not judged.
    host: host && (host.ingress || host.egress) ? host : undefined,
  }
}

/** What the table holds otherwise than before the last compilation, and whose connections are to be judged anew. */
export function changeOf({ affected, subjectChange }: CompiledPolicy, { unknown, known }: PodChange): Change {
  const recheck = recheckOf(affected)
  return {
    subjects: isNone(unknown) ? subjectChange : joinChanges(subjectChange, unknown),
    known,
    recheck: recheck === 'everything' ? recheck : [...recheck, ...unknown.added],
  }
}

/** Whether all that was decided still counts. */
export function isNoChange({ subjects, known, recheck }: Change): boolean {
  if (recheck === 'everything' || recheck.length > 0) return false
  return (!subjects || isNone(subjects)) && (!known || isNone(known))
}

function isNone({ added, removed }: SubjectChange): boolean {
  return added.length + removed.length === 0
}

/** The host's own traffic, and that of whole networks, is not told by a few addresses. */
function recheckOf({ isEverything, addresses, blocks, host }: Affected): Change['recheck'] {
  return isEverything || host || blocks.length > 0 ? 'everything' : addresses
}
