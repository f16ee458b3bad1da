import type { Estate } from '../../estate/estate.ts'
import { placeOrder, staff } from '../../estate/people.ts'

/** A quiet day: an order a second by one customer, and everybody at work. Ends with the returned function. */
export function keepBusy(estate: Estate, models: readonly string[]): () => Promise<void> {
  const over = new AbortController()
  const people = staff(estate.pages, { peoplePerDesk: 2, pauseMs: 300, idleMs: 500 })
  const customer = async (): Promise<void> => {
    for (let n = 0; !over.signal.aborted; n += 1) {
      await placeOrder(estate.pages, {
        clientId: null,
        material: ['PLA', 'ABS', 'steel', 'silver'][n % 4]!,
        quantity: 1 + (n % 5),
        file: models[n % models.length]!,
        // Whoever explores may well stop the Shop: the next one is tried in a second.
      }).catch(() => undefined)
      await pause(1000, over.signal)
    }
  }
  const ordering = customer()
  return async () => {
    over.abort()
    await Promise.all([ordering, people.stop()])
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms)
    signal.addEventListener('abort', () => {
      clearTimeout(timer)
      resolve()
    })
  })
}
