import { Command, Flags } from '@oclif/core'
import type { Problem } from './engine/index.ts'
import { placedName } from './engine/objects.ts'
import { type ErrorCode, exitCodes, KnpError } from './errors.ts'
import { printable } from './output/printable.ts'

/** The base of all commands: results on stdout, everything else on stderr, errors with a remedy and CLI.md's exit codes. */
export abstract class KnpCommand extends Command {
  static override enableJsonFlag = true

  /** Ends the command with its result: the object under `--json`, else the text; `code` is the exit status. */
  protected async finish(result: object, text: string, code = 0): Promise<never> {
    const output = this.jsonEnabled() ? JSON.stringify(result) : text
    // A pipe takes 64 KiB at once; what is not written when the process exits is lost.
    if (output !== '') await writeAll(output.endsWith('\n') ? output : `${output}\n`)
    return this.exit(code)
  }

  /** A line for people, beside the result. */
  protected note(text: string): void {
    process.stderr.write(`${printable(text)}\n`)
  }

  /** What is in force otherwise than it may have been meant, each once. */
  protected noteProblems(problems: readonly Problem[]): void {
    const texts = problems.map(({ object, message }) => `${placedName(object)}: ${message}`)
    for (const text of new Set(texts)) this.note(`warning: ${text}`)
  }

  protected override async catch(error: Error & { oclif?: { exit?: number }; code?: string }): Promise<never> {
    if (error.code === 'EEXIT') throw error
    const known = asKnpError(error)
    const code: ErrorCode = known?.code ?? 'INTERNAL'
    const message = known?.message ?? error.stack ?? String(error)
    const hint = known ? known.hint : 'this is a defect of knp: please report it with this text'
    if (this.jsonEnabled()) {
      process.stdout.write(`${JSON.stringify({ schema: 'knp.error/v1', code, message, ...(hint && { hint }) })}\n`)
    } else {
      this.note(`knp: ${message}`)
      if (hint) this.note(`     ${hint}`)
    }
    return this.exit(exitCodes[code])
  }
}

/** Resolves when the reader has it, or has gone. */
function writeAll(text: string): Promise<void> {
  return new Promise((resolve) => process.stdout.write(text, () => resolve()))
}

/** Flags that several commands take. */
export const sharedFlags = {
  source: Flags.string({
    multiple: true,
    // One value a flag: the arguments may stand behind it.
    multipleNonGreedy: true,
    required: true,
    description:
      'YAML or JSON manifests: a file, or a folder with its sub-folders; or kubernetes: a cluster; may be repeated',
    helpValue: 'PATH',
  }),
  quiet: Flags.boolean({ char: 'q', description: 'print nothing: the exit status answers' }),
}

function asKnpError(error: Error & { oclif?: { exit?: number } }): KnpError | undefined {
  if (error instanceof KnpError) return error
  // What oclif could not parse; its messages end with advice of their own.
  if (error.oclif?.exit === 2)
    return new KnpError('USAGE', error.message.replace(/\nSee more help with --help$/, '').replace(/\s*\n\t/g, ': '), {
      hint: 'see --help',
    })
  return undefined
}
