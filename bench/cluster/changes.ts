import type { Workload } from '../../src/engine/objects.ts'
import { v4 } from '../engine/cluster.ts'
import { Random } from '../engine/random.ts'
import { LOCAL_NODE } from './world.ts'

/** What becomes of a pod. */
export interface PodChange {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'
  readonly pod: Workload
  readonly isReady: boolean
  /** Its address begins or ceases to be a subject on the local node. */
  readonly isMeasured: boolean
}

/** Of the changes that matter so many are of pods of the local node. */
const LOCAL_PART = 4
/** How many pods came to the local node before one goes. */
const YOUNG_PODS = 50
/** 10.255.0.0/16, which no pod of the world has. */
const FIRST_NEW_ADDRESS = 0x0aff0000

/** The pods report that they are ready, and that they are not: nothing that a policy could name. */
export function* stateChanges(pods: readonly Workload[]): Generator<PodChange, never> {
  const random = new Random(17)
  for (let isReady = false; ; isReady = !isReady)
    yield { type: 'MODIFIED', pod: random.of(pods), isReady, isMeasured: false }
}

/**
 * Of four changes one is of the local node, where a pod comes with a new address or, some seconds later, goes; the others
 * give some pod the labels of another deployment of its namespace.
 */
export function* podChanges(pods: readonly Workload[]): Generator<PodChange, never> {
  const random = new Random(19)
  const local = pods.filter(({ node }) => node === LOCAL_NODE)
  const others = pods.filter(({ node }) => node !== LOCAL_NODE)
  const byNamespace = Map.groupBy(pods, ({ namespace }) => namespace)
  const alive: Workload[] = []
  let born = 0
  for (let i = 0; ; i++) {
    if (i % LOCAL_PART !== 0) {
      const pod = random.of(others)
      const { labels } = random.of(byNamespace.get(pod.namespace)!)
      yield { type: 'MODIFIED', pod: { ...pod, labels }, isReady: true, isMeasured: false }
    } else if (alive.length < YOUNG_PODS || i % (2 * LOCAL_PART) === 0) {
      const model = random.of(local)
      const addresses = [v4(FIRST_NEW_ADDRESS + (born % 65_536))]
      const name = `${model.name}-new${born++}`
      const pod = { ...model, ref: { ...model.ref, name }, name, addresses }
      alive.push(pod)
      yield { type: 'ADDED', pod, isReady: true, isMeasured: true }
    } else yield { type: 'DELETED', pod: alive.shift()!, isReady: true, isMeasured: true }
  }
}
