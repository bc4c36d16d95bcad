/** Whether decisions take effect: under `audit` everything passes, and what would be denied is told. */
export type Mode = (typeof modes)[number]

export const modes = ['enforce', 'audit'] as const
