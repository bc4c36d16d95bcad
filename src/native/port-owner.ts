import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { basename } from 'node:path'

/** The process that holds a netlink socket. */
export interface PortOwner {
  readonly pid: number
  /** The file name of its program, printable. */
  readonly name: string
}

const NETLINK_NETFILTER = 12

/**
 * The inode of the netfilter socket with this port id in the text of /proc/net/netlink (columns: sk, Eth, Pid, Groups,
 * Rmem, Wmem, Dump, Locks, Drops, Inode); `undefined` when there is none.
 */
export function parseSocketInode(text: string, portId: number): string | undefined {
  for (const line of text.split('\n')) {
    const columns = line.trim().split(/\s+/)
    if (Number(columns[1]) === NETLINK_NETFILTER && Number(columns[2]) >>> 0 === portId) return columns[9]
  }
  return undefined
}

/** Finds who holds a netfilter socket of this network namespace; `undefined` when that cannot be seen from here. */
export function findPortOwner(portId: number): PortOwner | undefined {
  const inode = readText('/proc/net/netlink', (text) => parseSocketInode(text, portId))
  if (inode === undefined) return undefined
  const target = `socket:[${inode}]`
  const pids = list('/proc').filter((name) => /^\d+$/.test(name))
  // Usually the port id is the pid, so look there first.
  pids.sort((a, b) => Number(b === String(portId)) - Number(a === String(portId)))
  for (const pid of pids) {
    if (!list(`/proc/${pid}/fd`).some((fd) => readLink(`/proc/${pid}/fd/${fd}`) === target)) continue
    // Not /proc/<pid>/comm: that is the name of a thread.
    const program = readLink(`/proc/${pid}/exe`) ?? '?'
    return { pid: Number(pid), name: basename(program).replace(/[^\x20-\x7e]/g, '?') }
  }
  return undefined
}

// Processes come and go while they are looked at, and some may not be looked at: what cannot be read is not there.

function list(directory: string): readonly string[] {
  try {
    return readdirSync(directory)
  } catch {
    return []
  }
}

function readLink(path: string): string | undefined {
  try {
    return readlinkSync(path)
  } catch {
    return undefined
  }
}

function readText<T>(path: string, read: (text: string) => T): T | undefined {
  try {
    return read(readFileSync(path, 'utf8'))
  } catch {
    return undefined
  }
}
