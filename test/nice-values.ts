import { readdirSync, readFileSync } from 'node:fs'

/** Of a process's threads, by the system's names of these: the 19th field of proc(5)'s stat, whose second one may have blanks. */
export function niceValues(pid: number): ReadonlyMap<number, number> {
  const values = readdirSync(`/proc/${pid}/task`).map((thread) => {
    const stat = readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8')
    return [Number(thread), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16])] as const
  })
  return new Map(values)
}
