/** One thing that was looked at. `fail`: the firewall cannot enforce here. */
export interface Finding {
  readonly check: string
  readonly result: 'ok' | 'warn' | 'fail'
  readonly detail: string
  readonly remedy?: string
}
