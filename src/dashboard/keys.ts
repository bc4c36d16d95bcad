import type { Key } from 'ink'
import type { DashboardState, Wish } from './state.ts'

/** What of a key is looked at. */
export type PressedKey = Partial<Key>

/** How far the page keys go. */
const PAGE = 10

/** What a key means here and now: a wish, the end, or nothing. */
export function meaningOf(
  { typed, filter, isQuitAsked }: DashboardState,
  input: string,
  key: PressedKey,
  isOwner: boolean,
): Wish | 'quit' | undefined {
  if (key.ctrl && input === 'c') return 'quit'
  if (typed !== undefined) return typing(typed, input, key)
  if (isQuitAsked) return input === 'q' ? 'quit' : { type: 'back' }
  if (key.upArrow || input === 'k') return { type: 'move', by: -1 }
  if (key.downArrow || input === 'j') return { type: 'move', by: 1 }
  if (key.pageUp) return { type: 'move', by: -PAGE }
  if (key.pageDown) return { type: 'move', by: PAGE }
  if (key.tab) return { type: 'focus', by: key.shift ? -1 : 1 }
  if (isEnter(input, key)) return { type: 'explain' }
  if (key.escape) return { type: 'back' }
  switch (input) {
    case 'q':
      return isOwner ? { type: 'ask-quit' } : 'quit'
    case 'p':
      return { type: 'pause' }
    case 's':
      return { type: 'sort' }
    case '/':
      return { type: 'type', typed: filter }
    case '?':
      return { type: 'help' }
  }
  return undefined
}

function typing(typed: string, input: string, key: PressedKey): Wish | undefined {
  if (isEnter(input, key)) return { type: 'filter', filter: typed.trim() }
  if (key.escape) return { type: 'type', typed: undefined }
  if (key.backspace || key.delete) return { type: 'type', typed: [...typed].slice(0, -1).join('') }
  if (key.ctrl || key.meta || key.tab || input === '' || /[\p{Cc}]/u.test(input)) return undefined
  return { type: 'type', typed: (typed + input).slice(0, MAX_FILTER) }
}

/** Behind other characters, where all came together, it is a character. */
function isEnter(input: string, key: PressedKey): boolean {
  return key.return === true || input === '\r'
}

const MAX_FILTER = 200
