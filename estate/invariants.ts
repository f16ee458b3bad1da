import type { Estate } from './estate.ts'
import { withClient } from './postgres-server.ts'

export interface Violation {
  readonly invariant: string
  readonly orderIds: string[]
}

interface Check {
  readonly invariant: string
  readonly database: 'ledger' | 'shop' | 'mes'
  readonly sql: string
}

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
    sql: `SELECT l.order_id FROM order_ledger l JOIN handover h ON h.order_id = l.order_id
          WHERE l.path <> (SELECT to_path FROM handover WHERE order_id = l.order_id ORDER BY id DESC LIMIT 1)`,
  },
  {
    invariant: 'no order.submitted of a direct order was forwarded from CRM',
    database: 'ledger',
    sql: `SELECT l.order_id FROM order_ledger l JOIN bridge_inbox b ON b.order_id = l.order_id
          WHERE l.path = 'direct' AND b.queue = 'mes.orders' AND b.routing_key = 'order.submitted' AND b.state = 'forwarded'
            AND NOT EXISTS (SELECT 1 FROM handover h WHERE h.order_id = l.order_id)`,
  },
  {
    invariant: 'times of hops do not run backwards',
    database: 'ledger',
    sql: `SELECT order_id FROM order_ledger
          WHERE accepted_at < submitted_at - interval '1 second' OR sending_at < accepted_at OR (delivered_at < accepted_at)
         UNION ALL SELECT coalesce(order_id, id::text) FROM bridge_inbox WHERE settled_at < received_at`,
  },
  {
    invariant: 'a bridge changed the topology at most twice',
    database: 'ledger',
    sql: `SELECT queue FROM bridge WHERE topology_changes > 2`,
  },
]

/** Checks what must hold at every instant; in a quiet estate also the balance of the three sides. */
export async function violations(estate: Estate, when: 'any time' | 'quiet'): Promise<Violation[]> {
  const found: Violation[] = []
  for (const check of always) {
    const ids = await idsOf(estate, check.database, check.sql)
    if (ids.length > 0) found.push({ invariant: check.invariant, orderIds: ids })
  }
  if (when === 'any time') return found
  const outbox = await rowsOf(
    estate,
    'shop',
    `SELECT order_id::text AS id, path FROM strangler.outbox`,
  )
  const ledger = await rowsOf(
    estate,
    'ledger',
    `SELECT order_id AS id, path, state FROM order_ledger WHERE origin = 'shop'`,
  )
  const mes = await rowsOf(
    estate,
    'mes',
    `SELECT order_id::text AS id, count(*)::int AS rows FROM public.orders WHERE source = 'shop' GROUP BY order_id`,
  )
  const inLedger = new Map(ledger.map((row) => [row['id'], row]))
  const inMes = new Map(mes.map((row) => [row['id'], row]))
  const add = (invariant: string, rows: Record<string, unknown>[]): void => {
    if (rows.length > 0) found.push({ invariant, orderIds: rows.map((row) => String(row['id'])) })
  }
  add(
    'every outbox row has exactly one ledger row',
    outbox.filter((row) => !inLedger.has(row['id'])),
  )
  add(
    'the ledger has the path that the Shop decided',
    outbox.filter((row) => inLedger.get(row['id'])?.['path'] !== row['path']),
  )
  add(
    'the MES holds every delivered order',
    ledger.filter((row) => row['state'] === 'delivered' && !inMes.has(row['id'])),
  )
  add(
    'the MES holds no Shop order without a ledger row',
    mes.filter((row) => !inLedger.has(row['id'])),
  )
  add(
    'the MES holds every order once',
    mes.filter((row) => row['rows'] !== 1),
  )
  add(
    'every order is delivered',
    ledger.filter((row) => row['state'] !== 'delivered'),
  )
  return found
}

async function idsOf(estate: Estate, database: Check['database'], sql: string): Promise<string[]> {
  const rows = await rowsOf(estate, database, sql)
  return rows.map((row) => String(Object.values(row)[0]))
}

function rowsOf(
  estate: Estate,
  database: Check['database'],
  sql: string,
): Promise<Record<string, unknown>[]> {
  return withClient(
    estate.databases[database],
    async (client) => (await client.query<Record<string, unknown>>(sql)).rows,
  )
}
