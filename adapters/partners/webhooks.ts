import { createHmac } from 'node:crypto'

import type { Service } from '../../runtime/lifecycle.ts'
import type { Log } from '../../runtime/log.ts'
import { pollLoop } from '../../runtime/poll-loop.ts'
import type { Pool } from '../../runtime/postgres.ts'

interface WebhookOptions {
  readonly intake: Pool
  readonly answerWithinMs: number
  /** After so many milliseconds each; behind the last one a message is dead. */
  readonly retryAfterMs: readonly number[]
  readonly log: Log
  onSent?(outcome: 'delivered' | 'failed' | 'dead'): void
}

interface Due {
  readonly seq: string
  readonly id: string
  readonly partner: string
  readonly orderId: string
  readonly url: string
  readonly secrets: readonly string[]
  readonly body: string
  readonly attempts: number
}

const second = 1000
const minute = 60 * second
const hour = 60 * minute
/** The schedule of the Standard Webhooks specification. */
export const standardRetries: readonly number[] = [
  5 * second,
  5 * minute,
  30 * minute,
  2 * hour,
  5 * hour,
  10 * hour,
  14 * hour,
  20 * hour,
  24 * hour,
]

/** Messages of one partner that are under way together. */
const atOnce = 20
/** Longer than any answer may take: who has claimed a message and died gives it back then. */
const claimMs = 60_000

/**
 * Tells partners of their orders' statuses: each message until its partner has taken it, at least once, and of one order in order:
 * the next is not sent before the one in front of it has been taken, or is dead. Every partner has rounds of its own, so that
 * one that does not answer holds up nobody else.
 */
export function webhookSender(options: WebhookOptions): Service {
  const { intake, log } = options
  const rounds = new Map<string, Promise<void>>()
  const round = async (partner: string, due: readonly Due[]): Promise<void> => {
    const sent = await Promise.allSettled(due.map((message) => send(options, message)))
    for (const each of sent)
      if (each.status === 'rejected')
        log.warn('round_failed', { loop: 'webhooks', partner, reason: String(each.reason) })
    rounds.delete(partner)
  }
  const loop = pollLoop({
    name: 'webhooks',
    log,
    idleMs: () => 250,
    work: async () => {
      const due = await claim(intake, [...rounds.keys()])
      for (const [partner, messages] of Map.groupBy(due, (message) => message.partner))
        rounds.set(partner, round(partner, messages))
      return false
    },
  })
  return {
    start: () => loop.start(),
    async stop() {
      await loop.stop()
      await Promise.all(rounds.values())
    },
  }
}

async function claim(intake: Pool, busy: readonly string[]): Promise<Due[]> {
  const { rows } = await intake.query<Due>(
    `WITH due AS (
       SELECT m.seq FROM webhook w CROSS JOIN LATERAL (
         SELECT o.seq FROM webhook_message o
         WHERE o.partner = w.partner AND o.state = 'open' AND o.next_attempt_at <= clock_timestamp()
           AND NOT EXISTS (SELECT FROM webhook_message b WHERE b.order_id = o.order_id AND b.state = 'open' AND b.seq < o.seq)
         ORDER BY o.next_attempt_at LIMIT ${atOnce} FOR UPDATE OF o SKIP LOCKED) m
       WHERE w.disabled_at IS NULL AND w.partner <> ALL($1::text[]))
     UPDATE webhook_message m SET next_attempt_at = clock_timestamp() + ${claimMs} * interval '1 millisecond', attempts = m.attempts + 1
     FROM due, webhook w WHERE m.seq = due.seq AND w.partner = m.partner
     RETURNING m.seq, m.id, m.partner, m.order_id AS "orderId", w.url, w.secrets, m.body, m.attempts`,
    [busy],
  )
  return rows
}

async function send(options: WebhookOptions, message: Due): Promise<void> {
  const { intake, answerWithinMs, retryAfterMs, log } = options
  const timestamp = Math.floor(Date.now() / 1000)
  const failed = await fetch(message.url, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      'webhook-id': message.id,
      'webhook-timestamp': String(timestamp),
      'webhook-signature': signatures(message, timestamp),
    },
    body: message.body,
    // An address that the partner has not given us is not followed.
    redirect: 'manual',
    signal: AbortSignal.timeout(answerWithinMs),
  }).then(
    async (response) => {
      await response.body?.cancel()
      return response.ok ? undefined : `answered ${response.status}`
    },
    (error: unknown) => (error instanceof Error ? error.name : 'no answer'),
  )
  if (failed === undefined) {
    await intake.query(
      `UPDATE webhook_message SET state = 'delivered', delivered_at = clock_timestamp(), last_error = NULL WHERE seq = $1`,
      [message.seq],
    )
    options.onSent?.('delivered')
    return
  }
  // The partner says that nobody lives there any more.
  if (failed === 'answered 410')
    await intake.query(
      'UPDATE webhook SET disabled_at = clock_timestamp(), disabled_why = $2 WHERE partner = $1 AND disabled_at IS NULL',
      [message.partner, failed],
    )
  const wait = retryAfterMs[message.attempts - 1]
  // Those behind it wait as long: what can't be sent is not looked at in every round.
  if (wait !== undefined)
    await intake.query(
      `UPDATE webhook_message SET next_attempt_at = greatest(next_attempt_at, clock_timestamp() + $3::float8 * interval '1 millisecond')
       WHERE order_id = $1 AND state = 'open' AND seq > $2`,
      [message.orderId, message.seq, wait],
    )
  await intake.query(
    `UPDATE webhook_message SET last_error = $2, state = CASE WHEN $3::float8 IS NULL THEN 'dead' ELSE 'open' END,
       next_attempt_at = clock_timestamp() + coalesce($3::float8, 0) * interval '1 millisecond' WHERE seq = $1`,
    [message.seq, failed, wait ?? null],
  )
  log.warn('webhook_failed', { partner: message.partner, id: message.id, reason: failed })
  options.onSent?.(wait === undefined ? 'dead' : 'failed')
}

/** One for each secret, so that a partner may check by the old or the new one: `v1,<base64 of HMAC-SHA256>`. */
export function signatures(
  { id, body, secrets }: Pick<Due, 'id' | 'body' | 'secrets'>,
  timestamp: number,
): string {
  return secrets
    .map((secret) => {
      const hmac = createHmac('sha256', Buffer.from(secret, 'base64'))
      return `v1,${hmac.update(`${id}.${timestamp}.${body}`).digest('base64')}`
    })
    .join(' ')
}
