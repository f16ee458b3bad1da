import type { Difference } from '../../delivery/difference.ts'
import { lastHops } from '../../delivery/last-hop.ts'
import type { LastHop } from '../../delivery/last-hop.ts'
import { reconcileWindow } from '../../delivery/reconcile-window.ts'
import type { Conserved } from '../../delivery/reconcile-window.ts'
import type { GateResult } from '../../flags/gates.ts'
import type { PhaseState } from '../../flags/phase-state.ts'
import type { PhaseId } from '../../flags/phases.ts'
import type { Pool } from '../../runtime/postgres.ts'
import { readMesOrders } from '../wire/mes-order-pages.ts'
import {
  mesClosed,
  mesTally,
  mesTookLast,
  openInMes,
  openInShop,
  shopClosed,
  shopTally,
} from '../wire/settled-orders.ts'
import { readShopOrders } from '../wire/shop-orders.ts'
import type { GateSettings } from './gate-settings.ts'
import type { GateSources } from './gate-sources.ts'
import { fail, inconclusive, notSound, pass, some, unsound } from './verdict.ts'
import type { Gate } from './verdict.ts'

const named = 20

export interface Unexplained extends Difference {
  /** Undefined: nothing of ours has seen it. */
  readonly lastHop: LastHop | undefined
}

/** Orders on the path that moves, of the window: legacy ones before anything has, then those decided since the last flip. */
export interface Samples {
  readonly orders: number
  readonly path: 'legacy' | 'direct'
}

export interface Books extends Pick<Conserved, 'accepted' | 'terminal' | 'inFlight'> {
  /** Of this channel, the first of them with their last hop; and how many orders they are. */
  readonly unexplained: readonly Unexplained[]
  readonly unexplainedOrders: number
  /** All of them are the legacy path's. */
  readonly legacyOnly: boolean
  /** Orders that another gate, or the other channel, has something against. */
  readonly besides: number
}

export function judgeConservation(books: Books, samples: Samples, minimum: number): GateResult {
  const gate = {
    gate: 'conservation',
    needed: `0 unexplained of >= ${minimum} ${samples.path} orders`,
    source: 'strangler reconcile',
  } as const
  const { accepted, terminal, inFlight, unexplained, unexplainedOrders, besides, legacyOnly } =
    books
  const wrong = unsound({
    accepted,
    terminal,
    inFlight,
    unexplainedOrders,
    besides,
    samples: samples.orders,
  })
  if (wrong.length > 0) return notSound(gate, wrong)
  const measured =
    `${unexplainedOrders} of ${accepted} orders unexplained (${terminal} closed, ${inFlight} on their way); ` +
    `${samples.orders} ${samples.path}`
  if (unexplainedOrders > 0) {
    return fail(
      gate,
      measured,
      `${unexplainedOrders} unexplained: ${some(unexplained.map(inWords), named)}`,
      {
        orderIds: unexplained.map(({ orderId }) => orderId),
        legacyOnly,
        unblock:
          '"strangler reconcile --redrive --dry-run" says what can be done; "strangler redrive <order>" sends again what a person says is missing',
      },
    )
  }
  if (accepted !== terminal + inFlight + besides) {
    return inconclusive(gate, measured, 'the books do not add up')
  }
  if (samples.orders < minimum) return tooFew(gate, measured, samples)
  return pass(gate, measured, `all ${accepted} orders are closed or on their way, on three sides`)
}

function inWords({ orderId, kind, says, lastHop }: Unexplained): string {
  const seen =
    lastHop === undefined
      ? 'nothing of ours has seen it'
      : `last seen by ${lastHop.hop} at ${lastHop.at.toISOString()}`
  return `${orderId} (${kind}: ${says}; ${seen})`
}

export function judgeDuplicates(
  found: {
    readonly accepted: number
    readonly duplicates: readonly Difference[]
    readonly legacyOnly: boolean
  },
  samples: Samples,
  minimum: number,
): GateResult {
  const gate = {
    gate: 'duplicates',
    needed: `0 of >= ${minimum} ${samples.path} orders`,
    source: 'strangler reconcile',
  } as const
  const { accepted, duplicates, legacyOnly } = found
  const wrong = unsound({ accepted, samples: samples.orders })
  if (wrong.length > 0) return notSound(gate, wrong)
  const measured = `${duplicates.length} of ${accepted} orders are in the MES more than once; ${samples.orders} ${samples.path}`
  if (duplicates.length > 0) {
    return fail(
      gate,
      measured,
      some(
        duplicates.map(({ orderId, says }) => `${orderId}: ${says}`),
        named,
      ),
      {
        orderIds: duplicates.map(({ orderId }) => orderId),
        legacyOnly,
        unblock: 'a person of the MES must cancel the second; "strangler mes-guard" prevents more',
      },
    )
  }
  if (samples.orders < minimum) return tooFew(gate, measured, samples)
  return pass(gate, measured, 'every order is in the MES once')
}

function tooFew(gate: Gate, measured: string, { orders, path }: Samples): GateResult {
  return inconclusive(
    gate,
    measured,
    `${orders} ${path} orders are too few to say it of`,
    'wait for orders, or set GATE_MINIMUM or GATE_WINDOW',
  )
}

/** One pass over the three sides, for every gate that rests on it. */
export function readConserved(
  { ledger, shop, mes }: GateSources,
  { windowMs, watermarkMs }: Pick<GateSettings, 'windowMs' | 'watermarkMs'>,
  isMesDown: () => Promise<boolean>,
): Promise<Conserved> {
  return reconcileWindow({
    ledger,
    windowMs,
    watermarkMs,
    legacy: {
      shopOrders: (ids) => shop((pool) => readShopOrders(pool, { ids })),
      mesOrders: (ids) => mes((pool) => readMesOrders(pool, ids)),
      shopOpen: () => shop(openInShop),
      mesOpen: (youngerMs) => mes((pool) => openInMes(pool, youngerMs)),
      shopTally: (of) => shop((pool) => shopTally(pool, of)),
      mesTally: (of) => mes((pool) => mesTally(pool, of)),
      shopClosed: (of, buckets) => shop((pool) => shopClosed(pool, of, buckets)),
      mesClosed: (of, buckets) => mes((pool) => mesClosed(pool, of, buckets)),
      async mesIntake() {
        const [took, isDown] = await Promise.all([mes(mesTookLast), isMesDown()])
        return { ...took, isDown }
      },
    },
  })
}

/** The books of one channel: what was to reach the MES, or what was to reach the Shop. */
export async function booksOf(
  ledger: Pool,
  phase: PhaseId,
  conserved: Pick<Conserved, 'accepted' | 'terminal' | 'inFlight' | 'differences'>,
): Promise<Books> {
  const toward = phase === 'statuses-direct' ? 'Shop' : 'MES'
  const found = conserved.differences.filter(
    (each) => each.toward === toward && each.kind !== 'duplicate' && !each.waits,
  )
  const elsewhere = await ofOtherChannel(ledger, phase, found)
  const ofChannel = found.filter(({ orderId }) => !elsewhere.has(orderId))
  const ids = new Set(ofChannel.map(({ orderId }) => orderId))
  const all = new Set(
    conserved.differences.filter(({ waits }) => !waits).map(({ orderId }) => orderId),
  )
  const first = [...ids].slice(0, named)
  const seen = await lastHops(ledger, first)
  return {
    ...conserved,
    unexplained: ofChannel.map((each) => ({ ...each, lastHop: seen.get(each.orderId) })),
    unexplainedOrders: ids.size,
    legacyOnly: await areLegacyOnly(ledger, phase, [...ids]),
    besides: all.size - ids.size,
  }
}

/** Orders that the partner intake has accepted: going back with the Shop's orders would not mend them. */
export async function ofOtherChannel(
  ledger: Pool,
  phase: PhaseId,
  differences: readonly Difference[],
): Promise<ReadonlySet<string>> {
  if (phase !== 'orders-direct' || differences.length === 0) return new Set()
  const { rows } = await ledger.query<{ id: string }>(
    `SELECT order_id AS id FROM order_ledger WHERE order_id = ANY($1::text[]) AND origin <> 'shop' AND path = 'direct'`,
    [differences.map(({ orderId }) => orderId)],
  )
  return new Set(rows.map(({ id }) => id))
}

/** False also of an order that the ledger does not know: it may have been ours to lose. */
export async function areLegacyOnly(
  ledger: Pool,
  phase: PhaseId,
  orderIds: readonly string[],
): Promise<boolean> {
  const column = phase === 'statuses-direct' ? 'status_path' : 'path'
  const { rows } = await ledger.query<{ legacy: number }>(
    `SELECT count(*)::int AS legacy FROM order_ledger WHERE order_id = ANY($1::text[]) AND coalesce(${column}, 'legacy') = 'legacy'`,
    [orderIds],
  )
  return rows[0]!.legacy === new Set(orderIds).size
}

/** Each step earns its own evidence: at a share of 0 legacy orders count, above it direct ones decided since the last flip. */
export async function readSamples(
  ledger: Pool,
  phase: PhaseId,
  force: Pick<PhaseState, 'share' | 'epoch'>,
  windowMs: number,
): Promise<Samples> {
  const path = force.share === 0 ? 'legacy' : 'direct'
  const [column, epoch, whose] = sampled[phase]
  const { rows } = await ledger.query<{ orders: number }>(
    `SELECT count(*)::int AS orders FROM order_ledger
     WHERE accepted_at >= clock_timestamp() - $1::float8 * interval '1 millisecond' AND ${column} = $2
       AND ($2 = 'legacy' OR ${epoch} >= $3) AND ${whose}`,
    [windowMs, path, force.epoch],
  )
  return { orders: rows[0]!.orders, path }
}

/** Of each phase: the path and epoch of its decisions in the ledger, and whose orders it decides. */
const sampled = {
  'orders-direct': ['path', 'path_epoch', `origin = 'shop'`],
  'statuses-direct': ['status_path', 'status_epoch', 'true'],
  'partner-intake': ['path', 'path_epoch', `origin <> 'shop'`],
} as const satisfies Record<PhaseId, readonly [string, string, string]>
