import { useApp, useInput, useWindowSize } from 'ink'
import { createElement as h, type ReactElement } from 'react'
import type { Connect } from './feed.ts'
import { meaningOf } from './keys.ts'
import { Screen } from './screen.ts'
import { reduce } from './state.ts'
import { useFirewall } from './use-firewall.ts'

export interface DashboardProps {
  readonly connect: Connect
  /** Whether the firewall ends with it. */
  readonly isOwner: boolean
}

/** The dashboard on a terminal. */
export function Dashboard({ connect, isOwner }: DashboardProps): ReactElement {
  const [state, dispatch] = useFirewall(connect)
  const { columns, rows } = useWindowSize()
  const { exit } = useApp()
  useInput((input, key) => {
    let current = state
    // What is typed fast comes together.
    for (const character of input === '' ? [''] : input) {
      const meaning = meaningOf(current, character, key, isOwner)
      if (meaning === 'quit') exit()
      else if (meaning) {
        current = reduce(current, meaning)
        dispatch(meaning)
      }
    }
  })
  return h(Screen, { state, columns, rows })
}
