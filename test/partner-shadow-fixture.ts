import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import type { ExecutionContext } from 'ava'

import type { ShadowReport } from '../adapters/partners/shadow-report.ts'
import type { NodeProcess } from '../estate/child-process.ts'
import { freePort } from '../estate/free-port.ts'
import { createLog } from '../runtime/log.ts'
import { createPool, type Pool } from '../runtime/postgres.ts'
import { type PartnerEstate, startPartnerEstate } from './partner-fixture.ts'
import { waitUntil } from './wait-until.ts'

export type Counts = Pick<ShadowReport, 'eligible' | 'compared' | 'differing' | 'dropped'>

interface Difference {
  readonly endpoint: string
  readonly order: string | null
  readonly field: string
  readonly ours: string | null
  readonly theirs: string | null
}

export interface ShadowEstate extends PartnerEstate {
  readonly mes: Pool
  /** Where the intake alone would keep a model. */
  readonly intakeModels: string
  /** The partner API at the proxy. */
  readonly doorApi: string
  /** One more proxy, with some of the systems behind it played. */
  proxyTo(
    t: ExecutionContext,
    settings: Readonly<Record<string, string>>,
  ): Promise<{ readonly process: NodeProcess; readonly port: number; readonly api: string }>
  /** What was counted of `work`, once all of it is: compared or dropped. */
  counted(
    partner: string,
    endpoint: string,
    calls: number,
    work: () => Promise<unknown>,
  ): Promise<Counts>
  differencesOf(partner: string): Promise<Difference[]>
  forgetDifferences(): Promise<void>
}

/** Acme and Strict order at the MES, Bolt is behind the intake, and the proxy compares all that it can. */
export async function startShadowEstate(): Promise<ShadowEstate> {
  const intakeModels = await mkdtemp(join(tmpdir(), 'strangler-shadow-'))
  const world = await startPartnerEstate({
    without: ['bridge', 'relay', 'courier', 'watch', 'applier', 'shadow'],
    settings: {
      proxy: { PARTNER_SHADOW: 'on', PARTNER_SHADOW_GRACE_MS: '300' },
      intake: { MODEL_DIR: intakeModels },
    },
  })
  const { intake, estate } = world
  const mes = createPool(estate.databases.mes, { name: 'test', log: createLog('test') })

  /** A proxy that started before the partners were there knows them by this. */
  const proxiesKnow = (): Promise<unknown> =>
    waitUntil('every proxy knows the routes', async () => {
      const { rows } = await intake.query<{ behind: number; there: number }>(
        `SELECT count(*) FILTER (WHERE seen_version < p.newest)::int AS behind, count(*)::int AS there
         FROM proxy_replica, (SELECT max(route_version) AS newest FROM partner) p
         WHERE clock_timestamp() - seen_at < lease_ms * interval '1 ms'`,
      )
      return rows[0]!.behind === 0 && rows[0]!.there > 0
    })
  await intake.query(
    `UPDATE partner SET route = 'mes', route_version = nextval('partner_route_version') WHERE id IN ('Acme', 'Strict')`,
  )
  await proxiesKnow()
  await world.route(0)

  const countsOf = async (partner: string, endpoint: string): Promise<Counts> => {
    const { rows } = await intake.query<Counts>(
      `SELECT coalesce(sum(eligible), 0)::int AS eligible, coalesce(sum(compared), 0)::int AS compared,
         coalesce(sum(differing), 0)::int AS differing, coalesce(sum(dropped), 0)::int AS dropped
       FROM partner_shadow_count WHERE partner = $1 AND endpoint = $2`,
      [partner, endpoint],
    )
    return rows[0]!
  }

  return {
    estate,
    intake,
    mes,
    intakeModels,
    mesApi: world.mesApi,
    get intakeApi() {
      return world.intakeApi
    },
    doorApi: `${estate.pages.mes}/api/partner/v1`,
    route: (share) => world.route(share),
    async proxyTo(t, settings) {
      const port = await freePort()
      const process = await estate.launch('proxy', {
        SHOP_LISTEN_PORT: '0',
        CRM_LISTEN_PORT: '0',
        MES_LISTEN_PORT: String(port),
        ...settings,
      })
      t.teardown(async () => {
        await process.terminate()
      })
      await proxiesKnow()
      return { process, port, api: `http://127.0.0.1:${port}/api/partner/v1` }
    },
    async counted(partner, endpoint, calls, work) {
      const before = await countsOf(partner, endpoint)
      await work()
      return await waitUntil(`${calls} calls of ${partner} are booked`, async () => {
        const now = await countsOf(partner, endpoint)
        const since = {
          eligible: now.eligible - before.eligible,
          compared: now.compared - before.compared,
          differing: now.differing - before.differing,
          dropped: now.dropped - before.dropped,
        }
        if (since.eligible < calls || since.compared + since.dropped < since.eligible)
          throw new Error(JSON.stringify(since))
        return since
      })
    },
    async differencesOf(partner) {
      const { rows } = await intake.query<Difference>(
        `SELECT endpoint, order_ref AS "order", field, ours, theirs FROM partner_shadow_difference WHERE partner = $1 ORDER BY id`,
        [partner],
      )
      return rows
    },
    async forgetDifferences() {
      await intake.query('DELETE FROM partner_shadow_difference')
    },
    async stop() {
      await mes.end()
      await world.stop()
      await rm(intakeModels, { recursive: true, force: true })
    },
  }
}

/** A system that the test plays. */
export async function play(
  t: ExecutionContext,
  answer: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<{ readonly origin: string; close(): Promise<void> }> {
  const server = createServer(answer)
  const port = await freePort()
  await new Promise<void>((resolve) => {
    server.listen(port, '127.0.0.1', resolve)
  })
  const close = async (): Promise<void> => {
    server.closeAllConnections()
    await new Promise((resolve) => {
      server.close(resolve)
    })
  }
  t.teardown(close)
  return { origin: `http://127.0.0.1:${port}`, close }
}

export async function numberIn(pool: Pool, sql: string, ...values: unknown[]): Promise<number> {
  const { rows } = await pool.query<{ n: number }>(`SELECT (${sql})::int AS n`, values)
  return rows[0]!.n
}

/** Each order has a number of its own. */
export function fieldsWith(
  more: Readonly<Record<string, string>> = {},
  id: string = randomUUID(),
): [string, string][] {
  return Object.entries({ external_id: id, material: 'PLA', quantity: '2', ...more })
}

export const model = Buffer.from('solid x\nendsolid x\n')
