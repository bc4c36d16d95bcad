/** How a field is encoded: its number, and what it is. `[]` stands for a list of messages. */
type Field = readonly [
  number: number,
  kind: 'text' | 'texts' | 'bool' | 'int' | 'time' | 'map' | 'quantities' | 'raw' | Message | readonly [Message],
]

type Message = { readonly [name: string]: Field }

const ip: Message = { ip: [1, 'text'] }

const metadata: Message = {
  name: [1, 'text'],
  generateName: [2, 'text'],
  namespace: [3, 'text'],
  uid: [5, 'text'],
  resourceVersion: [6, 'text'],
  generation: [7, 'int'],
  creationTimestamp: [8, 'time'],
  labels: [11, 'map'],
  annotations: [12, 'map'],
  ownerReferences: [
    13,
    [
      {
        kind: [1, 'text'],
        name: [3, 'text'],
        uid: [4, 'text'],
        apiVersion: [5, 'text'],
        controller: [6, 'bool'],
        blockOwnerDeletion: [7, 'bool'],
      },
    ],
  ],
  managedFields: [
    17,
    [
      {
        manager: [1, 'text'],
        operation: [2, 'text'],
        apiVersion: [3, 'text'],
        time: [4, 'time'],
        fieldsType: [6, 'text'],
        fieldsV1: [7, 'raw'],
        subresource: [8, 'text'],
      },
    ],
  ],
}

const fieldRef: Message = { apiVersion: [1, 'text'], fieldPath: [2, 'text'] }

const projection: Message = {
  downwardAPI: [2, { items: [1, [{ path: [1, 'text'], fieldRef: [2, fieldRef] }]] }],
  configMap: [
    3,
    { localObjectReference: [1, { name: [1, 'text'] }], items: [2, [{ key: [1, 'text'], path: [2, 'text'] }]] },
  ],
  serviceAccountToken: [4, { expirationSeconds: [2, 'int'], path: [3, 'text'] }],
}

const container: Message = {
  name: [1, 'text'],
  image: [2, 'text'],
  ports: [
    6,
    [
      {
        name: [1, 'text'],
        hostPort: [2, 'int'],
        containerPort: [3, 'int'],
        protocol: [4, 'text'],
        hostIP: [5, 'text'],
      },
    ],
  ],
  env: [7, [{ name: [1, 'text'], value: [2, 'text'] }]],
  resources: [8, { limits: [1, 'quantities'], requests: [2, 'quantities'] }],
  volumeMounts: [9, [{ name: [1, 'text'], readOnly: [2, 'bool'], mountPath: [3, 'text'], subPath: [4, 'text'] }]],
  terminationMessagePath: [13, 'text'],
  imagePullPolicy: [14, 'text'],
  stdin: [16, 'bool'],
  stdinOnce: [17, 'bool'],
  tty: [18, 'bool'],
  terminationMessagePolicy: [20, 'text'],
  restartPolicy: [24, 'text'],
}

const containerState: Message = { running: [2, { startedAt: [1, 'time'] }] }

/** k8s.io/api/core/v1/generated.proto, as far as pods of tests and benches go. */
const pod: Message = {
  metadata: [1, metadata],
  spec: [
    2,
    {
      volumes: [
        1,
        [
          {
            name: [1, 'text'],
            volumeSource: [2, { projected: [26, { sources: [1, [projection]], defaultMode: [2, 'int'] }] }],
          },
        ],
      ],
      containers: [2, [container]],
      restartPolicy: [3, 'text'],
      terminationGracePeriodSeconds: [4, 'int'],
      dnsPolicy: [6, 'text'],
      serviceAccountName: [8, 'text'],
      serviceAccount: [9, 'text'],
      nodeName: [10, 'text'],
      hostNetwork: [11, 'bool'],
      securityContext: [14, {}],
      schedulerName: [19, 'text'],
      initContainers: [20, [container]],
      tolerations: [
        22,
        [
          {
            key: [1, 'text'],
            operator: [2, 'text'],
            value: [3, 'text'],
            effect: [4, 'text'],
            tolerationSeconds: [5, 'int'],
          },
        ],
      ],
      priority: [25, 'int'],
      enableServiceLinks: [30, 'bool'],
      preemptionPolicy: [31, 'text'],
    },
  ],
  status: [
    3,
    {
      phase: [1, 'text'],
      conditions: [
        2,
        [
          {
            type: [1, 'text'],
            status: [2, 'text'],
            lastProbeTime: [3, 'time'],
            lastTransitionTime: [4, 'time'],
          },
        ],
      ],
      hostIP: [5, 'text'],
      podIP: [6, 'text'],
      startTime: [7, 'time'],
      containerStatuses: [
        8,
        [
          {
            name: [1, 'text'],
            state: [2, containerState],
            lastState: [3, containerState],
            ready: [4, 'bool'],
            restartCount: [5, 'int'],
            image: [6, 'text'],
            imageID: [7, 'text'],
            containerID: [8, 'text'],
            started: [9, 'bool'],
          },
        ],
      ],
      qosClass: [9, 'text'],
      podIPs: [12, [ip]],
      hostIPs: [16, [ip]],
    },
  ],
}

const listMetadata: Message = { resourceVersion: [2, 'text'], continue: [3, 'text'], remainingItemCount: [4, 'int'] }
const FIRST_BYTES = 64 << 10

type Mapping = Readonly<Record<string, unknown>>

/** A pod as an item of a list: its tag, its length and what it says. Fields that no pod here has are left out. */
export function encodePodItem(value: object): Buffer {
  const writer = new BackwardWriter()
  writer.message(pod, asStored(value as Mapping))
  writer.head(2, 2)
  return writer.take()
}

/** A list of pods before its items: `itemBytes` is how long these are. */
export function encodePodListHead(meta: object, itemBytes: number): Buffer {
  const inner = new BackwardWriter()
  inner.message(listMetadata, meta as Mapping)
  inner.head(1, 2)
  const metaField = inner.take()
  const head = new BackwardWriter()
  head.message({ apiVersion: [1, 'text'], kind: [2, 'text'] }, { apiVersion: 'v1', kind: 'PodList' })
  head.head(1, 2)
  const raw = new BackwardWriter()
  raw.varint(metaField.length + itemBytes)
  raw.varint((2 << 3) | 2)
  return Buffer.concat([Buffer.from('k8s\0'), head.take(), raw.take(), metaField])
}

/** What an API server writes after the items: encoding and type of what is in the envelope, both empty. */
export const podListEnd = Buffer.from([0x1a, 0, 0x22, 0])

/** A volume's source is a message of its own, and a config map's name too, which JSON does not show. */
function asStored(value: Mapping): Mapping {
  const spec = value.spec as { volumes?: readonly Mapping[] } | undefined
  if (!spec?.volumes) return value
  const volumes = spec.volumes.map(({ name, projected }) => {
    const { sources, ...rest } = projected as { sources: readonly Mapping[] }
    const stored = sources.map((source) => {
      if (!source.configMap) return source
      const { name: map, ...others } = source.configMap as Mapping
      return { configMap: { localObjectReference: { name: map }, ...others } }
    })
    return { name, volumeSource: { projected: { sources: stored, ...rest } } }
  })
  return { ...value, spec: { ...spec, volumes } }
}

const sortedFields = new WeakMap<Message, readonly (readonly [string, Field])[]>()

/** The one with the highest number first. */
function fromLast(fields: Message): readonly (readonly [string, Field])[] {
  const known = sortedFields.get(fields)
  if (known) return known
  const sorted = Object.entries(fields).sort(([, [a]], [, [b]]) => b - a)
  sortedFields.set(fields, sorted)
  return sorted
}

/** Writes from the end to the beginning: then lengths are known when they are written. */
class BackwardWriter {
  readonly #bytes = Buffer.allocUnsafe(FIRST_BYTES)
  #at = FIRST_BYTES

  take(): Buffer {
    return Buffer.from(this.#bytes.subarray(this.#at))
  }

  message(fields: Message, value: Mapping): void {
    for (const [name, [number, kind]] of fromLast(fields)) {
      const each = value[name]
      if (each !== undefined && each !== null) this.#field(number, kind, each)
    }
  }

  /** The tag and length of what was written since the end, or since `end`. */
  head(number: number, type: number, end = FIRST_BYTES): void {
    if (type === 2) this.varint(end - this.#at)
    this.varint((number << 3) | type)
  }

  varint(value: number): void {
    const bytes: number[] = []
    let rest = value
    for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128)
    bytes.push(rest)
    for (const byte of bytes.reverse()) this.#bytes[--this.#at] = byte
  }

  #field(number: number, kind: Field[1], value: unknown): void {
    if (kind === 'int' || kind === 'bool') {
      this.varint(Number(value))
      this.head(number, 0)
      return
    }
    if (kind === 'map' || kind === 'quantities') {
      const entries = Object.entries(value as Record<string, string>).sort(([a], [b]) => (a < b ? -1 : 1))
      for (const [key, each] of entries.reverse()) {
        const end = this.#at
        this.#field(2, kind === 'map' ? 'text' : { string: [1, 'text'] }, kind === 'map' ? each : { string: each })
        this.#field(1, 'text', key)
        this.head(number, 2, end)
      }
      return
    }
    const items = Array.isArray(kind) || kind === 'texts' ? (value as unknown[]).toReversed() : [value]
    for (const item of items) {
      const end = this.#at
      if (kind === 'text' || kind === 'texts') this.#text(item as string)
      else if (kind === 'raw') this.#field(1, 'text', JSON.stringify(item))
      else if (kind === 'time') {
        this.varint(Date.parse(item as string) / 1000)
        this.head(1, 0)
      } else this.message((Array.isArray(kind) ? kind[0] : kind) as Message, item as Mapping)
      this.head(number, 2, end)
    }
  }

  #text(text: string): void {
    this.#at -= Buffer.byteLength(text)
    this.#bytes.write(text, this.#at)
  }
}
