import type { OrderCounts } from '../../estate/estate-oracle.ts'

/** What the MES guard dropped, by `strangler mes-guard status --json`. */
export interface GuardCounts {
  readonly installed: boolean
  /** The broker delivered one message again: the fault of no sender. */
  readonly droppedRedeliveries: number
  /** A second message for an order: somebody of the estate sent it twice. */
  readonly droppedSecondSends: number
}

export interface Evidence {
  /** How many orders were to be submitted. */
  readonly wanted: number
  /** By the Shop DB and the MES DB, behind the guard. */
  readonly orders: OrderCounts
  readonly guard: GuardCounts
  readonly brokenInvariants: number
}

export interface Verdict {
  readonly held: boolean
  /** With the orders that were sent twice and that only the guard kept from being there twice. */
  readonly orders: OrderCounts
}

/**
 * Without the guard the MES of the estate doubles an order by itself when a broker delivers once more after a crash. With it no
 * order can be in the MES twice, so the rows there say nothing about our sends: what it dropped does.
 */
export function verdictOf({ wanted, orders, guard, brokenInvariants }: Evidence): Verdict {
  const duplicated = orders.duplicated + guard.droppedSecondSends
  return {
    held:
      guard.installed &&
      orders.submitted === wanted &&
      orders.closed === orders.submitted &&
      orders.lost === 0 &&
      duplicated === 0 &&
      orders.inDoubt === 0 &&
      brokenInvariants === 0,
    orders: { ...orders, duplicated },
  }
}

/** @throws Error when the document is another one: what can't be read proves nothing. */
export function readGuard(stdout: string): GuardCounts {
  const document: unknown = JSON.parse(stdout)
  const counts = { installed: false, droppedRedeliveries: 0, droppedSecondSends: 0 }
  if (typeof document !== 'object' || document === null) throw new Error('no guard status')
  if (!('installed' in document && typeof document.installed === 'boolean'))
    throw new Error(`mes-guard status without "installed": ${stdout}`)
  counts.installed = document.installed
  for (const name of ['droppedRedeliveries', 'droppedSecondSends'] as const) {
    const count = name in document ? Reflect.get(document, name) : undefined
    if (typeof count !== 'number') throw new Error(`mes-guard status without "${name}": ${stdout}`)
    counts[name] = count
  }
  return counts
}
