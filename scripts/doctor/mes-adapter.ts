import type { Finding } from '../../runtime/finding.ts'
import type { GuardState } from '../commands/mes-guard.ts'

const subject = 'MES adapter'

const lookup =
  'looks orders up in the MES database (rung "lookup"): an order is sent again only when its sender is dead, no queue holds it ' +
  'and the MES has no row; what remains is a whole machine frozen between claim and send for longer than that proof takes, and a ' +
  'broker that delivers a message once more'

/** What can still make two rows of work of one order, in words. `undefined` = whether the guard is in was not read. */
export function judgeMesAdapter(guard: GuardState | undefined): Finding {
  if (guard === undefined) {
    const says = `${lookup}; whether the MES guard closes that was not read`
    return { level: 'warn', subject, says, fix: 'give MES_URL' }
  }
  if (!guard.installed) {
    const fix = '"strangler mes-guard install" closes both, in the MES (additive, removable)'
    return { level: 'warn', subject, says: lookup, fix }
  }
  if (!guard.enabled) {
    return {
      level: 'unsafe',
      subject,
      says: 'the MES guard is in, but its trigger is disabled: nothing keeps an order from being there twice',
      fix: 'ALTER TABLE public.orders ENABLE TRIGGER strangler_one_row_per_order',
    }
  }
  const dropped = `it has dropped ${guard.droppedRedeliveries} redeliveries of the broker`
  if (guard.droppedSecondSends === 0) {
    const says = `the MES guard is in: the MES takes each order once; ${dropped}`
    return { level: 'ok', subject, says }
  }
  return {
    level: 'warn',
    subject,
    says: `the MES guard is in; ${dropped} and ${guard.droppedSecondSends} second sends: somebody sent an order twice`,
    fix: 'table strangler.dropped_duplicate of the MES DB names them, "strangler order <id>" says why',
  }
}
