import { setTimeout as delay } from 'node:timers/promises'

import type { Estate } from '../../estate/estate.ts'
import type { Exchange } from '../../estate/openapi-conformance.ts'
import { type PartnerTally, submitUntilAccepted } from '../../estate/partner-client.ts'
import { withClient } from '../../estate/postgres-server.ts'
import { torusStl } from '../../estate/sample-models.ts'
import {
  type ContractFindings,
  holdAgainstDocument,
  malformedRequests,
  readOrders,
} from './partner-contract.ts'
import type { Progress } from './progress.ts'

/** What became of a partner's orders, by the databases of MES, Shop and intake alone. */
export interface PartnerFindings {
  /** Requests, with those that were broken off, answered with an error, or sent once more on purpose. */
  readonly sent: number
  readonly accepted: number
  /** Different orders in the MES. */
  readonly orders: number
  readonly lost: number
  readonly duplicated: number
  /** Answers that were the first one again. */
  readonly replayed: number
  /** Of orders that were passed on: the MES made another one than the intake would have. */
  readonly parityDiffs: number
  /** Requests that were answered, malformed ones too: each held against the served OpenAPI document. */
  readonly exchanges: number
  readonly violations: number
}

/** As the MES of the demo has them. */
export const demoPartners = { 'demo-key-of-acme': 'Acme' } as const
const key = 'demo-key-of-acme'
const orders = 36
const who = ['--who', 'demo', '--why', 'demo run'] as const

/**
 * A partner that trusts nothing submits at its address of always, while it moves behind the intake, the phase goes up, back and up
 * again, and the intake is killed.
 */
export async function runPartners(estate: Estate, progress: Progress): Promise<PartnerFindings> {
  const tally: PartnerTally = { sent: 0, failed: 0, replayed: 0 }
  const run = async (...command: string[]): Promise<void> => {
    progress.say(`   $ strangler ${command.join(' ')}`)
    const { code, stdout, stderr } = await estate.strangler(...command, ...who)
    if (code !== 0)
      throw new Error(`strangler ${command.join(' ')} ended with ${code}: ${stdout}${stderr}`)
  }
  const api = `${estate.pages.mes}/api/partner/v1`
  const exchanges: Exchange[] = []
  const accepted = new Map<string, string>()
  let next = 0
  const submit = async (count: number): Promise<void> => {
    const batch = Array.from({ length: count }, () => (next += 1))
    await Promise.all(
      batch.map(async (n) => {
        const externalId = `PO-${1000 + n}`
        const id = await submitUntilAccepted(
          () => api,
          key,
          {
            externalId,
            fields: { external_id: externalId, material: 'PLA', quantity: String(1 + (n % 5)) },
            model: new Uint8Array(torusStl(200 + n)),
          },
          {
            tally,
            again: behindIntake ? 1 : 0,
            // The MES makes an order of a request that was broken off too late, and another one of its retry.
            cutAfterMs: (tries) => (behindIntake && tries === 0 && n % 3 === 0 ? 15 : undefined),
            onExchange: (exchange) => exchanges.push(exchange),
          },
        )
        accepted.set(externalId, id)
      }),
    )
  }
  let behindIntake = false
  await submit(orders / 6)
  await run('partner', 'enter', 'Acme')
  behindIntake = true
  await submit(orders / 6)
  exchanges.push(...(await malformedRequests(api, key)))
  await run('advance', 'partner-intake', '--share', '50%')
  const submitting = submit(orders / 6)
  const intake = estate.process('intake')
  intake.kill('SIGKILL')
  await intake.restart()
  progress.say('  the intake was killed with SIGKILL while the partner submitted; started again')
  await submitting
  await run('advance', 'partner-intake', '--share', '100%')
  await submit(orders / 6)
  const further = submit(orders / 6)
  await run('rollback', 'partner-intake')
  await further
  await run('resume', 'partner-intake')
  await run('advance', 'partner-intake', '--share', '100%')
  await submit(orders / 6)
  const ids = [...accepted.values()]
  await untilClosed(estate, ids, progress)
  exchanges.push(...(await readOrders(api, key, ids)))
  const contract = await holdAgainstDocument(estate, exchanges)
  for (const [line, all] of Map.groupBy(contract.violations, (each) => each))
    progress.say(`  against the OpenAPI document, ${all.length} times: ${line}`)
  return {
    ...(await findingsOf(estate, accepted, tally)),
    exchanges: contract.exchanges,
    violations: contract.violations.length,
  }
}

/** Their statuses have come back to the partner. */
async function untilClosed(
  estate: Estate,
  ids: readonly string[],
  progress: Progress,
): Promise<void> {
  const patience = performance.now() + 60_000
  for (;;) {
    const closed = await countIn(
      estate.databases.intake,
      `SELECT count(*)::int AS n FROM partner_order WHERE status = 'CLOSED' AND id = ANY($1::uuid[])`,
      ids,
    )
    progress.bar('the partner sees', closed, ids.length, 'closed')
    if (closed === ids.length) return
    if (performance.now() > patience) {
      progress.say('  not all were closed within 60 s: going on to count')
      return
    }
    await delay(200)
  }
}

async function findingsOf(
  estate: Estate,
  accepted: ReadonlyMap<string, string>,
  tally: PartnerTally,
): Promise<Omit<PartnerFindings, keyof ContractFindings>> {
  const ids = [...accepted.values()]
  const { databases } = estate
  const inMes = await countIn(
    databases.mes,
    `SELECT count(DISTINCT order_id)::int AS n FROM orders WHERE partner = 'Acme'`,
  )
  const rows = await countIn(
    databases.mes,
    `SELECT count(*)::int AS n FROM orders WHERE partner = 'Acme'`,
  )
  const externals = await countIn(
    databases.mes,
    `SELECT count(DISTINCT external_id)::int AS n FROM orders WHERE partner = 'Acme'`,
  )
  const lost: number[] = []
  for (const [url, sql] of [
    [
      databases.mes,
      `SELECT count(DISTINCT order_id)::int AS n FROM orders WHERE status = 'CLOSED' AND order_id = ANY($1::uuid[])`,
    ],
    [
      databases.shop,
      `SELECT count(*)::int AS n FROM public.orders WHERE status = 'CLOSED' AND id = ANY($1::uuid[])`,
    ],
    [
      databases.intake,
      `SELECT count(*)::int AS n FROM partner_order WHERE status = 'CLOSED' AND id = ANY($1::uuid[])`,
    ],
  ] as const)
    lost.push(ids.length - (await countIn(url, sql, ids)))
  return {
    sent: tally.sent,
    accepted: accepted.size,
    orders: inMes,
    lost: Math.max(...lost),
    duplicated: rows - externals,
    replayed: tally.replayed,
    parityDiffs: await countIn(
      databases.ledger,
      `SELECT count(*)::int AS n FROM parity_difference WHERE phase = 'partner-intake'`,
    ),
  }
}

function countIn(url: string, sql: string, ids?: readonly string[]): Promise<number> {
  return withClient(url, async (client) => {
    const { rows } = await client.query<{ n: number }>(sql, ids === undefined ? [] : [ids])
    return rows[0]!.n
  })
}
