import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

export type NativeProgram = 'load' | 'server' | 'accept-all'

let built: Promise<unknown> | undefined

/** Path of a program of bench/native, compiled if it is missing or older than its source. */
export async function nativeProgram(name: NativeProgram): Promise<string> {
  built ??= promisify(execFile)('make', ['-s', '-C', fileURLToPath(new URL('./native', import.meta.url))])
  await built
  return fileURLToPath(new URL(`../build/bench/${name}`, import.meta.url))
}
