/** What `knp run` tells. */
export interface LogConfig {
  readonly level: LogLevel
  /** Which decisions. */
  readonly flows: (typeof loggedFlows)[number]
  readonly format: (typeof logFormats)[number]
}

export type LogLevel = (typeof logLevels)[number]

/** From what matters most to what matters least; each tells all before it too. */
export const logLevels = ['error', 'warn', 'info', 'debug'] as const

/** Those that deny, or would if they were enforced; all; or none. */
export const loggedFlows = ['denied', 'all', 'none'] as const

/** Lines for people, JSON, or whichever suits what stderr is. */
export const logFormats = ['auto', 'text', 'json'] as const
