import type { ApiClient } from './api-client.ts'
import type { HeldObjects } from './held-objects.ts'
import { list } from './list.ts'
import { listPods } from './pod-list.ts'
import type { Resource } from './resources.ts'
import type { Timing } from './timing.ts'

/** Lists all of a resource, of which there may be very many where it is pods, and answers the version of the list. Throws ApiFailure. */
export function listInto(
  held: HeldObjects,
  { api, resource, timing }: { readonly api: ApiClient; readonly resource: Resource; readonly timing: Timing },
  signal: AbortSignal,
): Promise<string> {
  const { pageSize, answerMs, silenceMs, freshMs } = timing
  if (resource.kind !== 'Pod') return list(api, { resource, pageSize }, held, signal)
  const { path, wanted, wantedMessage } = resource
  const listed = { path, wanted, ...(wantedMessage && { wantedMessage }) }
  return listPods(api, { listed, pageSize, timing: { answerMs, silenceMs, freshMs } }, held, signal)
}
