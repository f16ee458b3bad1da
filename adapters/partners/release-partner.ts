import { StranglerError } from '../../contracts/errors.ts'
import { waitForFlip } from '../../flags/flip-complete.ts'
import { failpoint } from '../../runtime/failpoint.ts'
import { type Act, aloneWith, changeRoute, type PartnerDatabases } from './change-partner.ts'
import { findPartner } from './partners.ts'
import { waitForProxies } from './wait-for-proxies.ts'

interface ReleaseOptions {
  readonly databases: PartnerDatabases
  readonly partner: string
  readonly act: Act
  readonly withinMs: number
  readonly force: boolean
  readonly onProgress?: ((line: string) => void) | undefined
}

export interface Released {
  readonly changed: boolean
  /** Orders that the intake has, and the MES perhaps not. */
  readonly undelivered: number
  readonly waitedMs: number
  /** What may still send the partner's orders to the intake, which sends them away. */
  readonly heldBy: string | undefined
}

/** @throws StranglerError `not_found`; `refused` while orders that the intake has taken are not with the MES, without `force` */
export async function releasePartner(options: ReleaseOptions): Promise<Released> {
  const { databases, partner, act, withinMs, force, onProgress } = options
  return await aloneWith(databases.intake, partner, async () => {
    const { route } = await findPartner(databases.intake, partner)
    if (route === 'mes') return { changed: false, undelivered: 0, waitedMs: 0, heldBy: undefined }
    const before = await undelivered(databases, partner)
    if (before > 0 && !force)
      throw new StranglerError(
        'refused',
        `${before} orders that the intake has taken are not with the MES yet: wait for their delivery (those in its outbox go at PARTNER_ORDERS_PER_MINUTE: start its relay with more), or --force; until then the MES does not know them, and a retry of one would be a second order`,
      )
    const version = await changeRoute(databases, act, {
      partner,
      from: ['entering', 'intake'],
      to: 'mes',
    })
    failpoint('partner.released')
    // Whoever read the old route before may still be about to accept.
    const flip = await waitForFlip(databases.intake, withinMs)
    const waited = await waitForProxies(databases, {
      version,
      untilWritesAreOver: false,
      withinMs: Math.max(0, withinMs - flip.waitedMs),
      onProgress,
    })
    return {
      changed: true,
      undelivered: await undelivered(databases, partner),
      waitedMs: flip.waitedMs + waited.waitedMs,
      heldBy: waited.complete
        ? flip.complete
          ? undefined
          : (flip.heldBy ?? 'an open transaction of the intake')
        : waited.heldBy,
    }
  })
}

/** Taken and not on the way, on the way and not delivered, or being asked of the MES just now. */
async function undelivered({ intake, ledger }: PartnerDatabases, partner: string): Promise<number> {
  const here = await intake.query<{ count: number }>(
    `SELECT ((SELECT count(*) FROM outbox o JOIN partner_order p ON p.id = o.order_id WHERE p.partner = $1 AND o.relayed_at IS NULL)
       + (SELECT count(*) FROM answer WHERE partner = $1 AND state = 'forwarding'))::int AS count`,
    [partner],
  )
  const there = await ledger.query<{ count: number }>(
    `SELECT count(*)::int AS count FROM order_ledger WHERE origin = $1 AND state <> 'delivered'`,
    [`partner:${partner}`],
  )
  return (here.rows[0]?.count ?? 0) + (there.rows[0]?.count ?? 0)
}
