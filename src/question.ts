import { parseQuestion, type Question, QuestionError } from './engine/index.ts'
import { KnpError } from './errors.ts'

/** A question as a person writes it. */
export interface QuestionText {
  readonly from: string
  readonly to: string
  readonly port?: number
  readonly protocol?: string
}

/** Throws QuestionError `syntax`. */
export function readQuestion({ from, to, port, protocol }: QuestionText): Question {
  return parseQuestion(from, to, {
    ...(port !== undefined && { port }),
    ...(protocol !== undefined && { protocol }),
  })
}

/** What asks the engine on behalf of a person; its QuestionErrors become KnpErrors USAGE and UNKNOWN_NAME. */
export function withQuestionErrors<T>(ask: () => T): T {
  try {
    return ask()
  } catch (error) {
    if (!(error instanceof QuestionError)) throw error
    throw error.kind === 'syntax'
      ? new KnpError('USAGE', error.message, {
          cause: error,
          hint: 'for example: knp explain shop/web shop/db:5432/tcp --source policies/',
        })
      : new KnpError('UNKNOWN_NAME', error.message, { cause: error })
  }
}
