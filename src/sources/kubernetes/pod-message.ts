import { type Address, MAPPED_WORD, parseAddress } from '../../engine/address.ts'
import type { ProtobufReader } from './protobuf.ts'

const VARINT = 0
const LENGTH = 2
const DOT = 0x2e
const ZERO = 0x30
/** The last that a date can be. */
const LAST_SECOND = 8.64e12

/** Where the parts of a pod stand in its bytes; where something has no end, it is not there. */
export interface PodParts {
  name: number
  nameEnd: number
  namespace: number
  namespaceEnd: number
  labels: number
  labelsEnd: number
  node: number
  nodeEnd: number
  ports: number
  portsEnd: number
  phase: number
  phaseEnd: number
  createdMs: number
  hasContainers: boolean
  hasAddress: boolean
  addresses: Address[] | undefined
}

/**
 * Finds what policies need of a pod that is as nearly all are, in the API server's own encoding, by the numbers of
 * `wantedPodMessage`; `undefined` for one that is not plain, with the reader anywhere in it. What the parts say is not looked
 * at, but for addresses. Throws InvalidProtobuf.
 */
export function readPodParts(reader: ProtobufReader, end: number): PodParts | undefined {
  const parts: PodParts = {
    name: 0,
    nameEnd: 0,
    namespace: 0,
    namespaceEnd: 0,
    labels: 0,
    labelsEnd: 0,
    node: 0,
    nodeEnd: 0,
    ports: 0,
    portsEnd: 0,
    phase: 0,
    phaseEnd: 0,
    createdMs: -1,
    hasContainers: false,
    hasAddress: false,
    addresses: undefined,
  }
  let seen = 0
  while (reader.at < end) {
    const tag = reader.varint(end)
    const number = tag >>> 3
    if (number < 1 || number > 3) {
      reader.skip(tag, end)
      continue
    }
    if ((tag & 7) !== LENGTH || (seen & (1 << number)) !== 0) return undefined
    seen |= 1 << number
    const its = reader.lengthEnd(end)
    const read = number === 1 ? readMetadata : number === 2 ? readSpec : readStatus
    if (!read(reader, its, parts)) return undefined
  }
  const { nameEnd, namespaceEnd, labelsEnd, nodeEnd, phaseEnd } = parts
  const isWhole = nameEnd > 0 && namespaceEnd > 0 && labelsEnd > 0 && nodeEnd > 0 && phaseEnd > 0
  const isPlain = isWhole && parts.hasContainers && parts.createdMs >= 0 && (parts.addresses || !parts.hasAddress)
  return isPlain ? parts : undefined
}

function readMetadata(reader: ProtobufReader, end: number, parts: PodParts): boolean {
  while (reader.at < end) {
    const start = reader.at
    const tag = reader.varint(end)
    const number = tag >>> 3
    if (number !== 1 && number !== 3 && number !== 8 && number !== 11) {
      reader.skip(tag, end)
      continue
    }
    if ((tag & 7) !== LENGTH) return false
    if (number === 11) {
      if (parts.labelsEnd > 0) return false
      parts.labels = start
      parts.labelsEnd = passAlike(reader, tag, end)
      continue
    }
    const its = reader.lengthEnd(end)
    if (its === reader.at) return false
    if (number === 1) {
      parts.name = reader.at
      parts.nameEnd = its
    } else if (number === 3) {
      parts.namespace = reader.at
      parts.namespaceEnd = its
    } else {
      const seconds = readSeconds(reader, its)
      if (seconds > LAST_SECOND) return false
      parts.createdMs = seconds * 1000
    }
    reader.at = its
  }
  return true
}

function readSpec(reader: ProtobufReader, end: number, parts: PodParts): boolean {
  while (reader.at < end) {
    const tag = reader.varint(end)
    const number = tag >>> 3
    if (number === 2) {
      if ((tag & 7) !== LENGTH || !readContainer(reader, reader.lengthEnd(end), parts)) return false
      parts.hasContainers = true
    } else if (number === 10) {
      if ((tag & 7) !== LENGTH) return false
      const its = reader.lengthEnd(end)
      parts.node = reader.at
      parts.nodeEnd = its > reader.at ? its : 0
      reader.at = its
    } else if (number === 11) {
      if ((tag & 7) !== VARINT || reader.varint(end) !== 0) return false
    } else if (number === 20) return false
    else reader.skip(tag, end)
  }
  return true
}

/** Only one of a plain pod's has ports. */
function readContainer(reader: ProtobufReader, end: number, parts: PodParts): boolean {
  while (reader.at < end) {
    const start = reader.at
    const tag = reader.varint(end)
    if (tag >>> 3 !== 6) {
      reader.skip(tag, end)
      continue
    }
    if ((tag & 7) !== LENGTH || parts.portsEnd > 0) return false
    parts.ports = start
    parts.portsEnd = passAlike(reader, tag, end)
  }
  return true
}

function readStatus(reader: ProtobufReader, end: number, parts: PodParts): boolean {
  while (reader.at < end) {
    const tag = reader.varint(end)
    const number = tag >>> 3
    if (number !== 1 && number !== 6 && number !== 12) {
      reader.skip(tag, end)
      continue
    }
    if ((tag & 7) !== LENGTH) return false
    const its = reader.lengthEnd(end)
    if (number === 1) {
      parts.phase = reader.at
      parts.phaseEnd = its > reader.at ? its : 0
    } else if (number === 6) parts.hasAddress ||= its > reader.at
    else {
      const address = readAddress(reader, its)
      if (!address) return false
      // As long as it must be: a list that grows has room for sixteen more, and there is one for each pod.
      parts.addresses = parts.addresses ? [...parts.addresses, address] : [address]
    }
    reader.at = its
  }
  return true
}

function readAddress(reader: ProtobufReader, end: number): Address | undefined {
  let address: Address | undefined
  while (reader.at < end) {
    const tag = reader.varint(end)
    if (tag >>> 3 !== 1) {
      reader.skip(tag, end)
      continue
    }
    if ((tag & 7) !== LENGTH) return undefined
    const its = reader.lengthEnd(end)
    address = addressOf(reader.bytes, reader.at, its)
    if (!address) return undefined
    reader.at = its
  }
  return address
}

/** As `parseAddress`; what is plainly IPv4 is read from its digits. */
function addressOf(bytes: Buffer, start: number, end: number): Address | undefined {
  let word = 0
  let dots = 0
  let part = 0
  let digits = 0
  for (let at = start; at < end; at++) {
    const byte = bytes[at]!
    const digit = byte - ZERO
    if (digit >= 0 && digit <= 9 && (part > 0 || digits === 0)) {
      part = part * 10 + digit
      digits++
    } else if (byte === DOT && digits > 0 && dots < 3) {
      word = (word << 8) | part
      dots++
      part = 0
      digits = 0
    } else return parseAddress(bytes.toString('utf8', start, end))
    if (part > 255) return undefined
  }
  return dots === 3 && digits > 0 ? { w0: 0, w1: 0, w2: MAPPED_WORD, w3: (word << 8) | part } : undefined
}

/** Passes a field whose tag was read, and those of the same number that follow it; answers where they end. */
function passAlike(reader: ProtobufReader, tag: number, end: number): number {
  let last = reader.lengthEnd(end)
  reader.at = last
  while (reader.at < end && reader.varint(end) === tag) {
    last = reader.lengthEnd(end)
    reader.at = last
  }
  reader.at = last
  return last
}

function readSeconds(reader: ProtobufReader, end: number): number {
  let seconds = 0
  while (reader.at < end) {
    const tag = reader.varint(end)
    if (tag === 8) seconds = reader.varint(end)
    else reader.skip(tag, end)
  }
  return seconds
}
