import { isConnectionError } from '../runtime/postgres.ts'
import type { Pool } from '../runtime/postgres.ts'

export interface PartnerView {
  readonly id: string
  readonly mode: 'compat' | 'strict'
  readonly route: 'mes' | 'entering' | 'intake'
  readonly enteredAt: Date | null
  readonly requestsPerMinute: number
  readonly uploadsAtOnce: number
  /** Of the last day: accepted by the intake itself, and passed on to the MES by it. */
  readonly taken: number
  readonly passedOn: number
  /** Accepted, and not on the way to the MES yet. */
  readonly waiting: number
  /** Whatever its age, and whoever took it. */
  readonly lastOrderAt: Date | null
  readonly keys: readonly KeyView[]
  /** Undefined: nobody has ever set one. */
  readonly webhook: WebhookView | undefined
}

/** What may be told of a key; its secret is stored nowhere. */
export interface KeyView {
  readonly id: string
  readonly imported: boolean
  readonly createdAt: Date
  readonly lastUsedAt: Date | null
  readonly revokedAt: Date | null
}

export interface WebhookView {
  /** Of the URL only the host: what stands behind it may be a secret of the partner's. */
  readonly host: string
  readonly disabledAt: Date | null
  readonly disabledWhy: string | null
  /** Messages that wait, and those of them that failed at least once. */
  readonly open: number
  readonly failing: number
  readonly lastError: string | null
  readonly nextAttemptAt: Date | null
  /** Given up within the last week. */
  readonly dead: number
  readonly lastDeliveredAt: Date | null
}

export async function readPartners(intake: Pool): Promise<readonly PartnerView[] | 'unreadable'> {
  try {
    const [partners, keys, webhooks] = await Promise.all([
      intake.query<Omit<PartnerView, 'keys' | 'webhook'>>(ofPartners),
      intake.query<KeyView & { partner: string }>(ofKeys),
      intake.query<Omit<WebhookView, 'host'> & { partner: string; url: string }>(ofWebhooks),
    ])
    const hooks = new Map(
      webhooks.rows.map(({ partner, url, ...row }) => [partner, { ...row, host: hostOf(url) }]),
    )
    return partners.rows.map((row) => ({
      ...row,
      keys: keys.rows.filter(({ partner }) => partner === row.id),
      webhook: hooks.get(row.id),
    }))
  } catch (error) {
    if (isConnectionError(error)) return 'unreadable'
    throw error
  }
}

function hostOf(url: string): string {
  return URL.canParse(url) ? new URL(url).host : 'an address that can not be read'
}

// The day's orders are found by their index; all that there ever were would be counted one by one.
const ofPartners = `
  SELECT p.id, p.mode, p.route, p.entered_at AS "enteredAt", p.requests_per_minute AS "requestsPerMinute",
    p.uploads_at_once AS "uploadsAtOnce", o.taken, o."passedOn",
    (SELECT count(*)::int FROM outbox b WHERE b.partner = p.id AND b.relayed_at IS NULL) AS waiting,
    (SELECT l.created_at FROM partner_order l WHERE l.partner = p.id ORDER BY l.created_at DESC, l.id DESC LIMIT 1) AS "lastOrderAt"
  FROM partner p
  CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE d.born = 'intake')::int AS taken,
      count(*) FILTER (WHERE d.born = 'mes' AND d.path_reason ->> 'rule' <> 'born in the MES')::int AS "passedOn"
    FROM partner_order d WHERE d.partner = p.id AND d.created_at > clock_timestamp() - interval '1 day') o
  ORDER BY p.id`

const ofKeys = `
  SELECT partner, id, imported, created_at AS "createdAt", last_used_at AS "lastUsedAt", revoked_at AS "revokedAt"
  FROM api_key ORDER BY created_at, id`

const ofWebhooks = `
  SELECT w.partner, w.url, w.disabled_at AS "disabledAt", w.disabled_why AS "disabledWhy", o.open, o.failing, o."lastError",
    o."nextAttemptAt", r.dead, r."lastDeliveredAt"
  FROM webhook w
  CROSS JOIN LATERAL (
    SELECT count(*)::int AS open, count(m.last_error)::int AS failing,
      (array_agg(m.last_error ORDER BY m.next_attempt_at) FILTER (WHERE m.last_error IS NOT NULL))[1] AS "lastError",
      min(m.next_attempt_at) FILTER (WHERE m.last_error IS NOT NULL) AS "nextAttemptAt"
    FROM webhook_message m WHERE m.partner = w.partner AND m.state = 'open') o
  CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE m.state = 'dead')::int AS dead, max(m.delivered_at) AS "lastDeliveredAt"
    FROM webhook_message m WHERE m.partner = w.partner AND m.created_at > clock_timestamp() - interval '7 days') r`
