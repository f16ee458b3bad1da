import type { Running } from '../../adapters/gates/orders-running.ts'
import type { Finding } from '../../runtime/finding.ts'

export function judgeRunning(running: Running): Finding[] {
  const { trigger, share, relays, unrelayedMs, couriers, watches, undeliveredMs, held } = running
  const findings: Finding[] = []
  const needed =
    share > 0 || unrelayedMs !== undefined || undeliveredMs !== undefined ? 'unsafe' : 'warn'
  const there = (subject: string, count: number): void => {
    findings.push(
      count > 0
        ? { level: 'ok', subject, says: 'runs' }
        : { level: needed, subject, says: 'none runs', fix: 'start one' },
    )
  }
  findings.push(
    trigger === 'enabled'
      ? { level: 'ok', subject: 'trigger strangler_capture', says: trigger }
      : {
          level: 'unsafe',
          subject: 'trigger strangler_capture',
          says: `${trigger}: no new order is captured`,
          fix:
            trigger === 'missing'
              ? 'strangler migrate --only shop'
              : 'ALTER TABLE public.orders ENABLE TRIGGER strangler_capture',
        },
  )
  there('relay', relays)
  there('courier', couriers)
  there('watch', watches)
  if (unrelayedMs !== undefined && unrelayedMs > 30_000) {
    findings.push({
      level: 'unsafe',
      subject: 'outbox of the Shop DB',
      says: `an order waits there for ${seconds(unrelayedMs)}`,
      fix: 'the relay is away or does not get through: look at its log',
    })
  }
  if (undeliveredMs !== undefined && undeliveredMs > 300_000) {
    findings.push({
      level: 'warn',
      subject: 'undelivered orders',
      says: `the oldest direct order waits for ${seconds(undeliveredMs)}`,
      fix: '"strangler status" counts them, "strangler order <id>" says why',
    })
  }
  if (held > 0) {
    findings.push({
      level: 'warn',
      subject: 'held messages',
      says: `${held} wait at the bridges for evidence`,
      fix: 'they go on by themselves once a bridge process can prove that it may send them',
    })
  }
  return findings
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(0)} s`
}
