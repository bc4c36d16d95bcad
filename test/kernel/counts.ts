import type { Product } from './product.ts'

/** What the ruleset has counted. */
export async function counts(product: Product): Promise<Readonly<Record<'queued' | 'allowed' | 'denied', number>>> {
  const { queued, allowed, denied } = (await product.status()).counters
  return { queued, allowed, denied }
}

/** How much more than before. */
export async function moved(product: Product, before: Awaited<ReturnType<typeof counts>>): Promise<object> {
  const now = await counts(product)
  return {
    queued: now.queued - before.queued,
    allowed: now.allowed - before.allowed,
    denied: now.denied - before.denied,
  }
}
