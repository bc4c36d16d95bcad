import { type Dispatch, useEffect, useReducer, useRef } from 'react'
import type { Connect, Feed } from './feed.ts'
import { type Action, type DashboardState, initialState, reduce } from './state.ts'

/** The state as the firewall and its reader make it, and how wishes get in. Connected as long as it is shown. */
export function useFirewall(connect: Connect): readonly [DashboardState, Dispatch<Action>] {
  const [state, dispatch] = useReducer(reduce, initialState)
  const feed = useRef<Feed>(undefined)
  useEffect(() => {
    const connected = connect(dispatch)
    feed.current = connected
    return () => connected.close()
  }, [connect])
  const asked = state.explanation
  const id = asked?.id
  const event = asked?.event
  useEffect(() => {
    if (id === undefined || !event) return
    void feed.current?.explain(event).then((text) => dispatch({ type: 'explained', id, text }))
  }, [id, event])
  return [state, dispatch]
}
