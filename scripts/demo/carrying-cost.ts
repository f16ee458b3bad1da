import pg from 'pg'

import type { Estate } from '../../estate/estate.ts'

export interface CarryingCost {
  /** Statements of CRM's role on the Shop DB plus messages that CRM published or consumed, per order. */
  readonly crmRequests: number
  /** Statements on the Shop DB, per order, whoever made them (see `perOrder` for what is not counted). */
  readonly shopStatements: number
}

interface Reading {
  readonly crmStatements: number
  readonly shopStatements: number
  readonly crmMessages: number
}

// Not counted: transaction brackets, session settings, pages that list orders, and polls that found nothing: they cost the same
// whether or not an order moves. Counted: everything else on the Shop DB by anybody but the superuser, the trigger's own statements
// and the toolkit's relay and bridge included.
const perOrder = String.raw`s.query !~* '^\s*(BEGIN|COMMIT|ROLLBACK|START|SET|RESET|SHOW|LISTEN|DISCARD|SAVEPOINT|RELEASE)'
  AND s.query !~* '(/\* poll \*/|OFFSET|count\(|pg_catalog|pg_advisory|strangler_migrations)'`

// They look at all orders every few seconds, whether or not one moves.
const onlookers = ['reconciler_login', 'console_login', 'operator_login']

/** Reads PostgreSQL's own statement counters before and after a part of the demo that has drained, and divides by its orders. */
export class CarryingCostMeter {
  readonly #estate: Estate
  #before: Reading | undefined

  constructor(estate: Estate) {
    this.#estate = estate
  }

  async start(): Promise<void> {
    this.#before = await this.#read()
  }

  async stop(orders: number): Promise<CarryingCost | undefined> {
    const [before, after] = [this.#before, await this.#read()]
    if (before === undefined || after === undefined || orders === 0) return undefined
    const each = (value: number): number => Math.round((value / orders) * 10) / 10
    return {
      crmRequests: each(
        after.crmStatements - before.crmStatements + after.crmMessages - before.crmMessages,
      ),
      shopStatements: each(after.shopStatements - before.shopStatements),
    }
  }

  async #read(): Promise<Reading | undefined> {
    const { postgres, databases } = this.#estate
    if (!postgres.hasStatementStatistics) return undefined
    const database = new URL(databases.shop).pathname.slice(1)
    const [statements] = await query<{ crm: string; every: string }>(
      postgres.url,
      `SELECT coalesce(sum(s.calls) FILTER (WHERE r.rolname = 'crm'), 0)::text AS crm, coalesce(sum(s.calls), 0)::text AS every
       FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid JOIN pg_roles r ON r.oid = s.userid
       WHERE d.datname = $1 AND NOT r.rolsuper AND r.rolname <> ALL($2::text[]) AND ${perOrder}`,
      [database, onlookers],
    )
    const [messages] = await query<{ count: string }>(
      databases.ledger,
      `SELECT count(*)::text FROM bridge_inbox WHERE queue = 'mes.orders' OR (queue = 'crm.events' AND state = 'forwarded')`,
      [],
    )
    return {
      crmStatements: Number(statements!.crm),
      shopStatements: Number(statements!.every),
      crmMessages: Number(messages!.count),
    }
  }
}

async function query<Row extends pg.QueryResultRow>(
  url: string,
  sql: string,
  values: unknown[],
): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url, application_name: 'meter' })
  await client.connect()
  try {
    return (await client.query<Row>(sql, values)).rows
  } finally {
    await client.end()
  }
}
