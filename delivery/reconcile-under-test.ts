import { randomUUID } from 'node:crypto'

import { legacySides } from '../adapters/wire/reconcile-sides.ts'
import { inTransaction } from '../runtime/postgres.ts'
import { startEstateDatabases } from '../test/estate-databases.ts'
import type { EstateDatabases } from '../test/estate-databases.ts'
import type { Difference } from './difference.ts'
import { reconcile } from './reconcile.ts'

/** Three databases in which orders are planted an hour old, so that what disagrees is a difference. */
export async function startPlantation() {
  const estate = await startEstateDatabases()
  const { shop, ledger, mes } = estate
  return {
    ...estate,
    plant: (wanted: Plant = {}) => plant(estate, wanted),
    differences: () => differences(estate),
    async clear(): Promise<void> {
      await ledger.query('TRUNCATE order_ledger, order_event, bridge_inbox, bridge, status_inbox')
      await ledger.query(
        `INSERT INTO bridge (queue, state, who) VALUES ('mes.orders', 'inserted', 'test'), ('crm.events', 'inserted', 'test')`,
      )
      await shop.query(
        'TRUNCATE public.orders, strangler.outbox, strangler.order_fence, strangler.late_writes',
      )
      await mes.query('TRUNCATE public.orders')
    },
  }
}

export const hour = "now() - interval '1 hour'"

export interface Plant {
  readonly path?: 'legacy' | 'direct'
  readonly status?: string
  readonly state?: string
  readonly mesStatus?: string | undefined
  readonly mesRows?: number
  readonly price?: string | null
  readonly mesPrice?: string | null
  readonly claimed?: boolean
  readonly mail?: readonly string[]
  readonly statusPath?: 'legacy' | 'direct'
  /** What the MES told of it, and the bridge sent to CRM or into the status inbox, which has applied it. */
  readonly told?: readonly { readonly status: string; readonly price?: string }[]
  readonly inShop?: boolean
  readonly inLedger?: boolean
  readonly young?: boolean
}

/** An order that everybody agrees on, but for what is said. */
async function plant({ shop, ledger, mes }: EstateDatabases, wanted: Plant): Promise<string> {
  const id = randomUUID()
  const path = wanted.path ?? 'direct'
  const status = wanted.status ?? 'SUBMITTED'
  const at = wanted.young === true ? 'now()' : hour
  if (wanted.inShop !== false) {
    await inTransaction(shop, async (client) => {
      // Without our trigger: an hour ago it has decided.
      await client.query('SET LOCAL session_replication_role = replica')
      await client.query(
        `INSERT INTO public.orders (id, status, material, quantity, price, crm_sent_at, created_at, updated_at)
       VALUES ($1, $2, 'PLA', 1, $3, ${wanted.claimed === false ? 'NULL' : at}, ${at}, ${at})`,
        [id, status, wanted.price ?? null],
      )
    })
    await shop.query(
      `INSERT INTO strangler.outbox (order_id, path, epoch, reason, row, at, relayed_at) VALUES ($1, $2, 1, '{}', '{}', ${at}, ${at})`,
      [id, path],
    )
  }
  if (wanted.inLedger !== false) {
    const state = wanted.state ?? 'delivered'
    await ledger.query(
      `INSERT INTO order_ledger (order_id, origin, source_ref, path, path_epoch, path_reason, state, routing_key, body, body_sha256,
         submitted_at, accepted_at, rung_at, sending_at, delivered_at, owner_id, status_path)
       VALUES ($1, 'shop', $1, $2, 1, '{}', $3, 'order.submitted', '{}', '', ${at}, ${at}, ${at}, ${path === 'direct' ? at : 'NULL'},
         ${state === 'delivered' ? at : 'NULL'}, ${state === 'sending' ? 1 : 'NULL'}, $4)`,
      [id, path, state, wanted.statusPath ?? null],
    )
  }
  for (const key of wanted.mail ?? (path === 'legacy' ? ['order.submitted'] : [])) {
    await ledger.query(
      `INSERT INTO bridge_inbox (queue, msg_key, order_id, routing_key, exchange, state, body, properties, redelivered, received_at, settled_at)
       VALUES ('mes.orders', sha256($1::bytea), $2, $3, '', 'forwarded', '', '{}', false, ${at}, ${at})`,
      [`${id}${key}`, id, key],
    )
  }
  for (const [index, { status: told, price }] of (wanted.told ?? []).entries()) {
    const key = price === undefined ? 'order.status_changed' : 'order.price_calculated'
    const body = `{"orderId":"${id}","status":"${told}"${price === undefined ? '' : `,"price":${price},"currency":"EUR"`}}`
    await ledger.query(
      `INSERT INTO bridge_inbox (queue, msg_key, order_id, routing_key, exchange, status, state, body, properties, redelivered, received_at, settled_at)
       VALUES ('crm.events', sha256($1::bytea), $2, $3, 'mes.events', $4, $5, $6, '{}', false, ${at}, ${at})`,
      [
        `${id}${index}`,
        id,
        key,
        told,
        wanted.statusPath === 'direct' ? 'diverted' : 'forwarded',
        Buffer.from(body),
      ],
    )
  }
  const mesStatus = 'mesStatus' in wanted ? wanted.mesStatus : status
  const mesRows = mesStatus === undefined ? 0 : (wanted.mesRows ?? 1)
  for (let row = 0; row < mesRows; row += 1) {
    await mes.query(
      `INSERT INTO public.orders (order_id, source, status, model_key, model_sha256, model_bytes, material, quantity, price, currency, received_at, updated_at)
       VALUES ($1, 'shop', $2, '', '', 1, 'PLA', 1, $3, 'EUR', ${at}, ${at})`,
      [id, mesStatus, wanted.mesPrice ?? wanted.price ?? null],
    )
  }
  return id
}

async function differences({ shop, ledger, mes }: EstateDatabases): Promise<Difference[]> {
  const found: Difference[] = []
  await reconcile({
    ledger,
    legacy: legacySides(shop, mes),
    watermarkMs: 60_000,
    // Many pages, so that what falls between two of them would be missed.
    pageSize: 7,
    onDifferences: (some) => void found.push(...some),
  })
  return found
}

export function listed(found: readonly Difference[]): string[] {
  return found
    .map(
      ({ kind, orderId, remedy, waits }) =>
        `${kind} ${orderId} ${remedy?.act ?? '-'}${waits ? ' (waits)' : ''}`,
    )
    .toSorted()
}
