import { randomBytes } from 'node:crypto'

import { StranglerError } from '../../contracts/errors.ts'
import { type Act, changeAndTell, type PartnerDatabases } from './change-partner.ts'

/**
 * Where a partner is told of its orders, and the new secret that messages are signed with, in the form of the Standard Webhooks
 * (`whsec_<base64>`): shown this once. The secret before stays good beside it, until the next one.
 * @throws StranglerError `not_found`, `invalid_argument` for a URL that messages may not go to
 */
export async function setWebhook(
  databases: PartnerDatabases,
  act: Act,
  partner: string,
  url: string,
): Promise<string> {
  refuseUrl(url)
  const secret = randomBytes(32).toString('base64')
  return await changeAndTell(databases, act, async (client) => {
    const { rowCount } = await client.query(
      `INSERT INTO webhook AS w (partner, url, secrets) SELECT id, $2, ARRAY[$3::text] FROM partner WHERE id = $1
       ON CONFLICT (partner) DO UPDATE SET url = excluded.url, secrets = excluded.secrets || w.secrets[1:1], disabled_at = NULL,
         disabled_why = NULL`,
      [partner, url, secret],
    )
    if (rowCount !== 1) throw new StranglerError('not_found', `partner ${partner}`)
    return {
      result: `whsec_${secret}`,
      says: `${partner}: webhook to ${new URL(url).host}`,
      detail: { partner, host: new URL(url).host },
    }
  })
}

/** Returns false when it was off. What is still open stays so, and goes on when it is set again. */
export async function stopWebhook(
  databases: PartnerDatabases,
  act: Act,
  partner: string,
): Promise<boolean> {
  return await changeAndTell(databases, act, async (client) => {
    const { rowCount } = await client.query(
      'UPDATE webhook SET disabled_at = clock_timestamp(), disabled_why = $2 WHERE partner = $1 AND disabled_at IS NULL',
      [partner, act.why],
    )
    const changed = rowCount === 1
    return {
      result: changed,
      says: changed ? `${partner}: webhook off` : undefined,
      detail: { partner },
    }
  })
}

/** Messages of so long, delivered and dead ones, go again under their ids. Returns how many. */
export async function replayWebhook(
  databases: PartnerDatabases,
  act: Act,
  partner: string,
  sinceMs: number,
): Promise<number> {
  return await changeAndTell(databases, act, async (client) => {
    const { rowCount } = await client.query(
      `UPDATE webhook_message SET state = 'open', attempts = 0, next_attempt_at = clock_timestamp(), delivered_at = NULL
       WHERE partner = $1 AND state <> 'open' AND created_at > clock_timestamp() - $2::float8 * interval '1 millisecond'`,
      [partner, sinceMs],
    )
    const messages = rowCount ?? 0
    return {
      result: messages,
      says: messages === 0 ? undefined : `${partner}: ${messages} messages replayed`,
      detail: { partner, messages },
    }
  })
}

/** Our own network is none of a partner's: whoever sets a URL can make us ask it. Names are the operator's to judge. */
function refuseUrl(url: string): void {
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  if (parsed?.protocol !== 'https:')
    throw new StranglerError('invalid_argument', '--url expected to be https://...')
  if (parsed.username !== '' || parsed.password !== '')
    throw new StranglerError('invalid_argument', '--url must hold no credentials')
  const { hostname } = parsed
  if (/^(localhost|\[.*\]|[\d.]+)$/u.test(hostname) || hostname.endsWith('.localhost'))
    throw new StranglerError(
      'invalid_argument',
      `--url expected to name a host by its name, got ${hostname}`,
    )
}
