import type { MesOrder } from './mes-order.ts'

const baseCents = 250n
const trianglesPerCent = 50n
const percentFor: Readonly<Record<string, bigint>> = { gold: 90n, silver: 95n }

/** Whole cents all the way: the price is exact, and the same on every run. */
export function priceOf(
  triangles: number,
  { quantity, customer_tier: tier }: Pick<MesOrder, 'quantity' | 'customer_tier'>,
): string {
  const each = baseCents + (BigInt(triangles) + trianglesPerCent - 1n) / trianglesPerCent
  const percent = percentFor[tier ?? ''] ?? 100n
  const cents = (each * BigInt(quantity) * percent + 50n) / 100n
  return `${cents / 100n}.${String(cents % 100n).padStart(2, '0')}`
}
