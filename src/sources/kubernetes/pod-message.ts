import { pushAddress } from './address-bytes.ts'
import type { ProtobufReader } from './protobuf.ts'

const VARINT = 0
const LENGTH = 2
/** The last of 32 bits; in 2106. */
const LAST_SECOND = 2 ** 32 - 1

/** Where the parts of a pod stand in its bytes; where something has no end, it is not there. */
export class PodParts {
  name = 0
  nameEnd = 0
  namespace = 0
  namespaceEnd = 0
  labels = 0
  labelsEnd = 0
  node = 0
  nodeEnd = 0
  ports = 0
  portsEnd = 0
  phase = 0
  phaseEnd = 0
  createdSeconds = -1
  hasContainers = false
  /** In the field for one. */
  hasAddress = false
  /** In the field for all. */
  hasAddresses = false
  /** Four for each address. */
  readonly words: number[] = []

  clear(): void {
    this.nameEnd = 0
    this.namespaceEnd = 0
    this.labelsEnd = 0
    this.nodeEnd = 0
    this.portsEnd = 0
    this.phaseEnd = 0
    this.createdSeconds = -1
    this.hasContainers = false
    this.hasAddress = false
    this.hasAddresses = false
    this.words.length = 0
  }
}

/**
 * Finds what policies need of a pod that is as nearly all are, in the API server's own encoding, by the numbers of
 * `wantedPodMessage`; false for one that is not plain, with the reader anywhere in it. What the parts say is not looked at,
 * but for addresses. Throws InvalidProtobuf.
 */
export function readPodParts(reader: ProtobufReader, end: number, parts: PodParts): boolean {
  parts.clear()
  let seen = 0
  while (reader.at < end) {
    const tag = reader.varint(end)
    const number = tag >>> 3
    if (number < 1 || number > 3) {
      reader.skip(tag, end)
      continue
    }
    if ((tag & 7) !== LENGTH || (seen & (1 << number)) !== 0) return false
    seen |= 1 << number
    const its = reader.lengthEnd(end)
    const read = number === 1 ? readMetadata : number === 2 ? readSpec : readStatus
    if (!read(reader, its, parts)) return false
  }
  const { nameEnd, namespaceEnd, labelsEnd, nodeEnd, phaseEnd } = parts
  const isWhole = nameEnd > 0 && namespaceEnd > 0 && labelsEnd > 0 && nodeEnd > 0 && phaseEnd > 0
  return isWhole && parts.hasContainers && parts.createdSeconds >= 0 && (parts.hasAddresses || !parts.hasAddress)
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
      parts.createdSeconds = readSeconds(reader, its)
      if (parts.createdSeconds > LAST_SECOND) return false
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
      parts.hasAddresses = true
      if (!readAddress(reader, its, parts.words)) return false
    }
    reader.at = its
  }
  return true
}

/** Of an address that is told twice the last one counts. */
function readAddress(reader: ProtobufReader, end: number, words: number[]): boolean {
  const count = words.length
  while (reader.at < end) {
    const tag = reader.varint(end)
    if (tag >>> 3 !== 1) {
      reader.skip(tag, end)
      continue
    }
    if ((tag & 7) !== LENGTH) return false
    const its = reader.lengthEnd(end)
    words.length = count
    if (!pushAddress(words, reader.bytes, reader.at, its)) return false
    reader.at = its
  }
  return words.length > count
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
