import { StranglerError } from '../../contracts/errors.ts'
import { noteEvent } from '../../flags/timeline.ts'
import { type Client, inTransaction, type Pool } from '../../runtime/postgres.ts'

export type PartnerSide = 'mes' | 'entering' | 'intake'

export interface PartnerDatabases {
  readonly intake: Pool
  readonly ledger: Pool
}

export interface Act {
  readonly who: string
  readonly why: string
}

/**
 * One change and the line of the timeline that tells of it. The line is written before the commit: a change without one can't be,
 * a line without its change can, if the database goes away in between.
 */
export async function changeAndTell<Result>(
  { intake, ledger }: PartnerDatabases,
  { who, why }: Act,
  change: (client: Client) => Promise<{
    readonly result: Result
    /** undefined: nothing was changed. */
    readonly says: string | undefined
    readonly detail?: Readonly<Record<string, unknown>>
  }>,
): Promise<Result> {
  return await inTransaction(intake, async (client) => {
    const { result, says, detail } = await change(client)
    if (says !== undefined)
      await noteEvent(ledger, {
        phase: 'partner-intake',
        kind: 'partner',
        who,
        says: `${says}: ${why}`,
        detail: { ...detail },
      })
    return result
  })
}

/**
 * The next version of the partners' routes. Nobody else takes one before this transaction is over: whoever has seen a version has
 * seen every lower one.
 */
export async function nextRouteVersion(client: Client): Promise<number> {
  await client.query(`SELECT pg_advisory_xact_lock(hashtext('partner_route_version'))`)
  const { rows } = await client.query<{ version: string }>(
    `SELECT nextval('partner_route_version') AS version`,
  )
  return Number(rows[0]!.version)
}

/**
 * From one route to another, as a new version.
 * @throws StranglerError `refused` when it stands elsewhere by now
 */
export async function changeRoute(
  databases: PartnerDatabases,
  act: Act,
  move: {
    readonly partner: string
    readonly from: readonly PartnerSide[]
    readonly to: PartnerSide
    /** Why, where that is not the person's reason alone. */
    readonly because?: string
  },
): Promise<number> {
  const { partner, from, to, because } = move
  return await changeAndTell(databases, act, async (client) => {
    const version = await nextRouteVersion(client)
    const { rowCount } = await client.query(
      `UPDATE partner SET route = $2, route_version = $3, entered_at = CASE WHEN $2 = 'intake' THEN clock_timestamp() ELSE entered_at END
       WHERE id = $1 AND route = ANY($4)`,
      [partner, to, version, from],
    )
    if (rowCount !== 1)
      throw new StranglerError('refused', `${partner} has been moved by somebody else meanwhile`)
    const words = because === undefined ? '' : ` (${because})`
    return {
      result: version,
      says: `${partner}: route ${to}${words}`,
      detail: { partner, route: to, version },
    }
  })
}

/** One command at a time moves a partner; a lock of a session, so it ends with whoever holds it. */
export async function aloneWith<Result>(
  intake: Pool,
  partner: string,
  work: () => Promise<Result>,
): Promise<Result> {
  const client = await intake.connect()
  // A connection that breaks in the meantime is told by the next statement; unheard, it would end the process.
  client.on('error', () => undefined)
  try {
    const { rows } = await client.query<{ alone: boolean }>(
      `SELECT pg_try_advisory_lock(hashtext('strangler partner'), hashtext($1)) AS alone`,
      [partner],
    )
    if (rows[0]?.alone !== true)
      throw new StranglerError('refused', `another command is moving ${partner} just now`)
    return await work()
  } finally {
    // With the connection its lock is gone, whatever state it is in.
    client.release(true)
  }
}
