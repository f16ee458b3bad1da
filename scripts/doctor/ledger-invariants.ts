import type { Violation } from '../../delivery/ledger-invariants.ts'
import type { Finding } from '../../runtime/finding.ts'

const subject = 'owners of orders'
const named = 20

export function judgeLedger(violations: readonly Violation[]): Finding[] {
  if (violations.length === 0)
    return [
      { level: 'ok', subject, says: 'one at most, and no change without a death certificate' },
    ]
  return violations.map(({ invariant, orderIds }) => ({
    level: 'unsafe',
    subject,
    says: `broken: "${invariant}" for ${orderIds.length} orders: ${orderIds.slice(0, named).join(' ')}`,
    fix: '"strangler order <id>" says who held it and what was done about it',
  }))
}
