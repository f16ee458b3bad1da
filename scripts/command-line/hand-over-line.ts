import type { HandedOver } from '../../delivery/order-timeline.ts'

export function handOverLine({
  phase,
  fromPath,
  toPath,
  who,
  why,
  at,
  finished,
}: HandedOver): string {
  const what = phase === 'orders-direct' ? 'the order was' : 'its statuses were'
  const open = finished ? '' : '; not finished: say the same command again'
  return `${what} handed over from ${fromPath} to ${toPath} by ${who} at ${new Date(at).toISOString()}: "${why}"${open}`
}
