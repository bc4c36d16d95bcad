/** How long things may take, and when they are tried again. */
export interface Timing {
  /** A connection on which nothing has come for so long is taken for dead; the API server sends bookmarks each minute. */
  readonly silenceMs: number
  /** So long the API server may take to begin an answer. */
  readonly answerMs: number
  /** A watch is asked to end after so long, or half as much again. */
  readonly watchMs: number
  /** The first pause after a failure, and the longest; between them it doubles, less a random part. */
  readonly firstPauseMs: number
  readonly longestPauseMs: number
  /** How often the API server is asked which kinds of policies it serves. */
  readonly discoveryMs: number
  /** So long failures of a kind that may pass are waited out before there is no first picture. */
  readonly firstPictureMs: number
  /** Credentials that were read so recently are not read again: that they are refused has another reason. */
  readonly freshMs: number
  /** Objects in a page of a list. */
  readonly pageSize: number
}

export const usualTiming: Timing = {
  silenceMs: 90_000,
  answerMs: 30_000,
  watchMs: 300_000,
  firstPauseMs: 500,
  longestPauseMs: 30_000,
  discoveryMs: 30_000,
  firstPictureMs: 10_000,
  freshMs: 10_000,
  pageSize: 500,
}
