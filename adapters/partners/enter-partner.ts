import { StranglerError } from '../../contracts/errors.ts'
import { failpoint } from '../../runtime/failpoint.ts'
import type { Pool } from '../../runtime/postgres.ts'
import { type Act, aloneWith, changeRoute, type PartnerDatabases } from './change-partner.ts'
import { importPartnerOrders } from './import-orders.ts'
import { findPartner, type PartnerRow } from './partners.ts'
import { refuseByShadow, type ShadowSaid } from './shadow-report.ts'
import { proxyWithoutRoutes, readProxies, waitForProxies } from './wait-for-proxies.ts'

/*
 *   mes --import--> mes --> entering --every proxy has let go--> entering --import again--> intake
 *
 * Until `intake`, the intake takes nothing of the partner: what is ordered waits there, and is sent away after a while. So the way
 * back to `mes` is open at every point, and whoever dies leaves a state from which the same command goes on.
 */

interface EnterOptions {
  readonly databases: PartnerDatabases
  readonly mes: Pool
  readonly partner: string
  readonly act: Act
  readonly withinMs: number
  /** See ProxyWait. */
  readonly dead: readonly string[]
  /** So many orders the shadow must have compared. */
  readonly minimum: number
  readonly onProgress?: ((line: string) => void) | undefined
}

export interface Entered {
  readonly changed: boolean
  /** Orders brought over from the MES, before and after the proxies let go. */
  readonly imported: number
  /** All that the partner has at the MES. */
  readonly orders: number
  readonly proxies: number
  readonly waitedMs: number
  /** Who sends the partner's reads to the MES still. */
  readonly readsBehind: string | undefined
  /** What the shadow has seen of it before; undefined: it was not asked, since the partner was on its way already. */
  readonly shadow: ShadowSaid | undefined
}

/** @throws StranglerError `not_found`; `refused`: the partner is where it was, at the MES */
export async function enterPartner(options: EnterOptions): Promise<Entered> {
  const { databases, partner } = options
  return await aloneWith(databases.intake, partner, async () => {
    const found = await findPartner(databases.intake, partner)
    if (found.route === 'intake') {
      // What the MES got past the intake all the same is brought over.
      const { imported, inMes } = await bringOver(options)
      return {
        changed: false,
        imported,
        orders: inMes,
        proxies: 0,
        waitedMs: 0,
        readsBehind: undefined,
        shadow: undefined,
      }
    }
    await refuseWithoutSeam(databases, found)
    const shadow =
      found.route === 'mes' ? await refuseByShadow(databases, partner, options.minimum) : undefined
    return { ...(await enter(options, found)), shadow }
  })
}

async function refuseWithoutSeam(
  { intake, ledger }: PartnerDatabases,
  { id, liveKeys }: PartnerRow,
): Promise<void> {
  if (liveKeys === 0)
    throw new StranglerError(
      'refused',
      `${id} has no key here, so the proxies would not know its calls: "strangler partner import-keys" first`,
    )
  const proxies = await readProxies(intake)
  const without = await proxyWithoutRoutes(ledger, proxies)
  if (without !== undefined)
    throw new StranglerError('refused', `${without} would make ${id}'s orders a second time`)
  if (proxies.every(({ lapsed }) => lapsed))
    throw new StranglerError(
      'refused',
      'no proxy decides per partner: start them with INTAKE_URL and INTAKE_UPSTREAM',
    )
}

async function enter(options: EnterOptions, found: PartnerRow): Promise<Omit<Entered, 'shadow'>> {
  const { databases, partner, act, withinMs, onProgress } = options
  let imported = 0
  if (found.route === 'mes') {
    // The most of it while nobody waits.
    imported = (await bringOver(options)).imported
    failpoint('partner.imported')
    await changeRoute(databases, act, { partner, from: ['mes'], to: 'entering' })
  }
  failpoint('partner.entering')
  const settled = await takeOver(options).catch(async (error: unknown) => {
    throw await backToMes(options, error)
  })
  failpoint('partner.entered')
  const reads = await waitForProxies(databases, {
    version: settled.version,
    untilWritesAreOver: false,
    withinMs: Math.max(0, withinMs - settled.waitedMs),
    onProgress,
  })
  return {
    changed: true,
    imported: imported + settled.imported,
    orders: settled.orders,
    proxies: settled.proxies,
    waitedMs: settled.waitedMs,
    readsBehind: reads.complete ? undefined : reads.heldBy,
  }
}

/** @throws StranglerError `refused`, and whatever a database throws; the partner is `entering` then */
async function takeOver(options: EnterOptions): Promise<{
  readonly version: number
  readonly imported: number
  readonly orders: number
  readonly proxies: number
  readonly waitedMs: number
}> {
  const { databases, partner, act, withinMs, dead, onProgress } = options
  const waited = await waitForProxies(databases, {
    version: await versionOf(databases.intake, partner),
    untilWritesAreOver: true,
    withinMs,
    dead,
    onProgress,
  })
  if (!waited.complete) throw new StranglerError('refused', heldInWords(waited.heldBy))
  failpoint('partner.let-go')
  const { imported, inMes, inIntake } = await bringOver(options)
  if (inMes !== inIntake)
    throw new StranglerError(
      'refused',
      `the MES has ${inMes} orders of ${partner}, and the intake ${inIntake} of them`,
    )
  failpoint('partner.caught-up')
  const version = await changeRoute(databases, act, { partner, from: ['entering'], to: 'intake' })
  const { acknowledged: proxies, waitedMs } = waited
  return { version, imported, orders: inMes, proxies, waitedMs }
}

function bringOver({ databases, mes, partner, onProgress }: EnterOptions) {
  return importPartnerOrders({ mes, intake: databases.intake }, partner, onProgress)
}

function heldInWords(heldBy: string): string {
  return (
    `${heldBy} may still send orders to the MES; let it go on, or end it, and enter again. ` +
    'One that is dead is told with --dead <pid>@<host>, or forgotten after an hour'
  )
}

/** Nothing was taken yet, so the MES goes on as if nothing had been. */
async function backToMes(
  { databases, partner, act }: EnterOptions,
  error: unknown,
): Promise<unknown> {
  const reason = error instanceof Error ? error.message : String(error)
  const back = await changeRoute(databases, act, {
    partner,
    from: ['entering'],
    to: 'mes',
    because: 'the entering was given up',
  }).then(
    () => true,
    () => false,
  )
  if (back && error instanceof StranglerError && error.code === 'refused')
    return new StranglerError('refused', `${error.detail}; ${partner} is at the MES as before`)
  if (back) return error
  return new StranglerError(
    'refused',
    `${reason}; ${partner} is between the two, and its orders are sent away: "strangler partner enter" goes on, "release" goes back`,
    error,
  )
}

async function versionOf(intake: Pool, partner: string): Promise<number> {
  const { rows } = await intake.query<{ version: string }>(
    'SELECT route_version AS version FROM partner WHERE id = $1',
    [partner],
  )
  return Number(rows[0]!.version)
}
