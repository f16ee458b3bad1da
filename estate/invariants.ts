import { type DeliveryState, orderStatuses, type Path, statusRank } from '../contracts/order.ts'
import { Books } from '../delivery/books.ts'
import { ledgerViolations, type Violation } from '../delivery/ledger-invariants.ts'
import { type ModelReference, modelsMissing } from '../delivery/model-store.ts'
import { withClient } from './postgres-server.ts'

interface Check {
  readonly invariant: string
  readonly database: 'ledger' | 'shop' | 'mes'
  readonly sql: string
}

const neverRepinned = `NOT EXISTS (SELECT FROM handover h WHERE h.order_id = l.order_id AND h.phase = 'statuses-direct')`

/** Each query returns the ids that break its invariant. All but the last group hold at every instant, also in mid-flight. */
const always: readonly Check[] = [
  {
    invariant:
      'a direct order is claimed in the transaction that decided its path, a legacy one never by us',
    database: 'shop',
    sql: `SELECT o.id::text FROM public.orders o JOIN strangler.outbox b ON b.order_id = o.id
          WHERE b.path = 'direct' AND o.crm_sent_at IS NULL`,
  },
  {
    invariant: 'every submitted Shop order has its outbox row',
    database: 'shop',
    sql: `SELECT o.id::text FROM public.orders o
          WHERE o.source = 'shop' AND o.status NOT IN ('INITIATED', 'FILE_UPLOADED') AND NOT EXISTS (SELECT 1 FROM strangler.outbox b WHERE b.order_id = o.id)`,
  },
  {
    invariant:
      'a ledger row is terminal or visibly not: held by an owner, due, or in doubt since a time',
    database: 'ledger',
    sql: `SELECT order_id FROM order_ledger
          WHERE (state = 'sending' AND owner_id IS NULL) OR (state = 'in_doubt' AND doubt_at IS NULL AND path = 'direct')
             OR (state = 'accepted' AND next_attempt_at > clock_timestamp() + interval '1 hour')`,
  },
  {
    invariant: 'a path changes only with a hand-over record',
    database: 'ledger',
    sql: `SELECT l.order_id FROM order_ledger l JOIN LATERAL (
            SELECT DISTINCT ON (h.phase) h.phase, h.to_path FROM handover h WHERE h.order_id = l.order_id ORDER BY h.phase, h.id DESC) h ON true
          WHERE h.to_path <> CASE h.phase WHEN 'statuses-direct' THEN l.status_path ELSE l.path END
         UNION ALL SELECT order_id FROM order_ledger l WHERE status_reason ->> 'rule' = 'repinned' AND NOT EXISTS (
            SELECT FROM handover h WHERE h.order_id = l.order_id AND h.phase = 'statuses-direct' AND h.epoch = l.status_epoch)`,
  },
  {
    invariant: 'no order.submitted of a direct order was forwarded from CRM',
    database: 'ledger',
    sql: `SELECT l.order_id FROM order_ledger l JOIN bridge_inbox b ON b.order_id = l.order_id
          WHERE l.path = 'direct' AND b.queue = 'mes.orders' AND b.routing_key = 'order.submitted' AND b.state = 'forwarded'
            AND NOT EXISTS (SELECT 1 FROM handover h WHERE h.order_id = l.order_id AND h.phase = 'orders-direct')`,
  },
  {
    invariant: 'times of hops do not run backwards',
    database: 'ledger',
    sql: `SELECT order_id FROM order_ledger
          WHERE accepted_at < submitted_at - interval '1 second' OR sending_at < accepted_at OR (delivered_at < accepted_at)
         UNION ALL SELECT coalesce(order_id, id::text) FROM bridge_inbox WHERE settled_at < received_at
         UNION ALL SELECT order_id FROM status_inbox WHERE tried_at > settled_at OR settled_at < received_at`,
  },
  {
    invariant: 'CRM gets no status of an order whose statuses are direct',
    database: 'ledger',
    sql: `SELECT DISTINCT l.order_id FROM order_ledger l JOIN bridge_inbox b ON b.order_id = l.order_id
          WHERE l.status_path = 'direct' AND b.queue = 'crm.events'
            AND b.routing_key IN ('order.price_calculated', 'order.status_changed') AND b.state IN ('forwarded', 'held')
            AND ${neverRepinned}`,
  },
  {
    invariant: 'only statuses of direct orders are in the status inbox, and every diverted one is',
    database: 'ledger',
    sql: `SELECT s.order_id FROM status_inbox s LEFT JOIN order_ledger l ON l.order_id = s.order_id
          WHERE l.status_path IS DISTINCT FROM 'direct' AND ${neverRepinned}
         UNION ALL SELECT b.order_id FROM bridge_inbox b
          WHERE b.state = 'diverted' AND NOT EXISTS (SELECT 1 FROM status_inbox s WHERE s.id = b.id AND s.order_id = b.order_id)`,
  },
  {
    invariant: 'the path of statuses is stored with its decision',
    database: 'ledger',
    sql: `SELECT order_id FROM order_ledger
          WHERE (status_path IS NULL) <> (status_epoch IS NULL) OR (status_path IS NULL) <> (status_reason IS NULL)`,
  },
  {
    invariant: 'no late write of CRM to an order of ours sticks',
    database: 'shop',
    sql: `SELECT w.order_id::text FROM strangler.late_writes w JOIN strangler.fenced_writer f ON f.role = w.role WHERE w.kept`,
  },
  {
    invariant: 'a bridge changed the topology at most twice',
    database: 'ledger',
    sql: `SELECT queue FROM bridge WHERE topology_changes > 2`,
  },
]

/** The superuser URLs of the three databases; and where the models lie, when there are any. */
type Judged = {
  readonly databases: Readonly<Record<Check['database'], string>>
  readonly modelDirectory?: string
}

/** Checks what must hold at every instant; in a quiet estate also the balance of the three sides. */
export async function violations(estate: Judged, when: 'any time' | 'quiet'): Promise<Violation[]> {
  const found: Violation[] = []
  for (const check of always) {
    const ids = await idsOf(estate, check.database, check.sql)
    if (ids.length > 0) found.push({ invariant: check.invariant, orderIds: ids })
  }
  found.push(...(await withClient(estate.databases.ledger, (client) => ledgerViolations(client))))
  found.push(...(await modelViolations(estate)))
  if (when === 'any time') return found
  const outbox = await rowsOf<OutboxRow>(
    estate,
    'shop',
    `SELECT order_id::text AS id, path, relayed_at IS NOT NULL AS relayed, at FROM strangler.outbox`,
  )
  const ledger = await rowsOf<LedgerRow>(
    estate,
    'ledger',
    `SELECT order_id AS id, path, state FROM order_ledger WHERE origin = 'shop'`,
  )
  const mes = await rowsOf<{ id: string; rows: number }>(
    estate,
    'mes',
    `SELECT order_id::text AS id, count(*)::int AS rows FROM public.orders WHERE source = 'shop' GROUP BY order_id`,
  )
  const inLedger = new Map(ledger.map((row) => [row.id, row]))
  const inMes = new Map(mes.map((row) => [row.id, row]))
  const add = (invariant: string, rows: readonly { readonly id: string }[]): void => {
    if (rows.length > 0) found.push({ invariant, orderIds: rows.map(({ id }) => id) })
  }
  add(
    'every outbox row has exactly one ledger row',
    outbox.filter(({ id }) => !inLedger.has(id)),
  )
  add(
    'the ledger has the path that the Shop decided',
    outbox.filter(({ id, path }) => inLedger.get(id)?.path !== path),
  )
  found.push(...unbalancedBooks(outbox, inLedger))
  add(
    'the MES holds every delivered order',
    ledger.filter(({ id, state }) => state === 'delivered' && !inMes.has(id)),
  )
  add(
    'the MES holds no Shop order without a ledger row',
    mes.filter(({ id }) => !inLedger.has(id)),
  )
  add(
    'the MES holds every order once',
    mes.filter(({ rows }) => rows !== 1),
  )
  add(
    'every order is delivered',
    ledger.filter(({ state }) => state !== 'delivered'),
  )
  found.push(...(await statusViolations(estate)))
  return found
}

interface OutboxRow {
  readonly id: string
  readonly path: string
  readonly relayed: boolean
  readonly at: Date
}

interface LedgerRow {
  readonly id: string
  readonly path: Path
  readonly state: DeliveryState
}

async function modelViolations({ databases, modelDirectory }: Judged): Promise<Violation[]> {
  if (modelDirectory === undefined) return []
  const { rows } = await withClient(databases.shop, (client) =>
    client.query<ModelReference & { ids: string[] }>(
      `SELECT model_key AS key, model_bytes::float8 AS bytes, array_agg(id::text) AS ids FROM public.orders
       WHERE status <> 'INITIATED' AND model_key IS NOT NULL GROUP BY 1, 2`,
    ),
  )
  const missing = await modelsMissing(modelDirectory, rows)
  const orderIds = missing.flatMap(({ ids }) => ids)
  return orderIds.length === 0
    ? []
    : [{ invariant: "every order's model is in the store", orderIds }]
}

function unbalancedBooks(
  outbox: readonly OutboxRow[],
  ledger: ReadonlyMap<string, LedgerRow>,
): Violation[] {
  const books = new Books()
  for (const { id, path, relayed, at } of outbox)
    books.add({ orderId: id, captured: { path, relayed, at }, ledger: ledger.get(id) })
  return books.unbalanced().map(({ path, minute, orderIds }) => ({
    invariant: `the books balance (${path}, ${minute})`,
    orderIds,
  }))
}

/** Of the orders whose statuses are direct, when nothing moves: the Shop has what the MES has. */
async function statusViolations(estate: Judged): Promise<Violation[]> {
  const direct = new Set(
    await idsOf(estate, 'ledger', `SELECT order_id FROM order_ledger WHERE status_path = 'direct'`),
  )
  const open = await idsOf(
    estate,
    'ledger',
    `SELECT DISTINCT order_id FROM status_inbox WHERE state IN ('open', 'waiting')`,
  )
  const fenced = await idsOf(
    estate,
    'shop',
    `SELECT order_id::text FROM strangler.order_fence WHERE path = 'direct'`,
  )
  const shop = await progressOf(
    estate,
    'shop',
    'SELECT id::text, status, price::text FROM public.orders',
  )
  const mes = await progressOf(
    estate,
    'mes',
    'SELECT DISTINCT ON (order_id) order_id::text AS id, status, price::text FROM public.orders ORDER BY order_id, id',
  )
  const both = [...direct].flatMap((id) => {
    const [inShop, inMes] = [shop.get(id), mes.get(id)]
    return inShop === undefined || inMes === undefined ? [] : [{ id, inShop, inMes }]
  })
  const checks: Violation[] = [
    { invariant: 'no status waits in the status inbox', orderIds: open },
    {
      invariant: 'only orders whose statuses are direct are fenced',
      orderIds: fenced.filter((id) => !direct.has(id)),
    },
    {
      invariant: 'the Shop has the status that the MES has, or a later one of CRM',
      orderIds: both
        .filter(({ inShop, inMes }) => {
          const ahead = statusRank(inShop.status) - statusRank(inMes.status)
          return ahead < 0 || (ahead > 0 && !isOfCrm(inShop.status))
        })
        .map(({ id }) => id),
    },
    {
      invariant: 'the Shop has the price that the MES has',
      orderIds: both
        .filter(({ inShop, inMes }) => inMes.price !== null && inShop.price !== inMes.price)
        .map(({ id }) => id),
    },
  ]
  return checks.filter(({ orderIds }) => orderIds.length > 0)
}

interface Progress {
  readonly status: string
  readonly price: string | null
}

async function progressOf(
  estate: Judged,
  database: 'shop' | 'mes',
  sql: string,
): Promise<Map<string, Progress>> {
  const found = await withClient(estate.databases[database], (client) =>
    client.query<Progress & { id: string }>(sql),
  )
  return new Map(found.rows.map(({ id, ...progress }) => [id, progress]))
}

function isOfCrm(status: string): boolean {
  const setters: Readonly<Record<string, string>> = orderStatuses
  return setters[status] === 'crm'
}

async function idsOf(estate: Judged, database: Check['database'], sql: string): Promise<string[]> {
  const rows = await rowsOf<Record<string, unknown>>(estate, database, sql)
  return rows.map((row) => String(Object.values(row)[0]))
}

function rowsOf<Row extends object>(
  estate: Judged,
  database: Check['database'],
  sql: string,
): Promise<Row[]> {
  return withClient(
    estate.databases[database],
    async (client) => (await client.query<Row>(sql)).rows,
  )
}
