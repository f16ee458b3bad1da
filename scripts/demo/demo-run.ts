import { setTimeout as delay } from 'node:timers/promises'

import { EstateOracle, type Findings } from '../../estate/estate-oracle.ts'
import type { Estate } from '../../estate/estate.ts'
import { placeOrder, registerClient, staff } from '../../estate/people.ts'
import { withClient } from '../../estate/postgres-server.ts'
import { descendantsOf } from '../../estate/process-table.ts'
import { type CarryingCost, CarryingCostMeter } from './carrying-cost.ts'
import { type PartnerFindings, runPartners } from './partner-run.ts'
import type { Progress } from './progress.ts'
import type { InvoiceOrder } from './read-orders.ts'
import { statusFindings } from './status-findings.ts'
import type { StatusFindings } from './status-findings.ts'

export interface DemoOutcome {
  readonly findings: Findings
  readonly uploaded: number
  readonly hashMismatch: number
  readonly perOrder: {
    readonly legacy: CarryingCost | undefined
    readonly direct: CarryingCost | undefined
    /** Orders and their statuses past CRM. */
    readonly statusesDirect: CarryingCost | undefined
  }
  readonly statuses: StatusFindings
  readonly partner: PartnerFindings
  readonly reconcile: { readonly code: number; readonly stdout: string }
  readonly courierKills: number
  readonly applierKills: number
  /** Orders that a kill left "maybe sent", all settled by evidence. */
  readonly doubtsSettled: number
}

interface Part {
  readonly label: string
  /** What the platform engineer types before it. */
  readonly commands: readonly (readonly string[])[]
  readonly weight: number
  /** Wait until every order is closed, so that the part's cost can be told apart. */
  readonly drain: boolean
  readonly measure?: 'legacy' | 'direct' | 'statusesDirect'
  readonly kill?: 'child' | 'supervisor' | 'applier' | 'applier and courier'
}

const who = ['--who', 'demo', '--why', 'demo run']
const parts: readonly Part[] = [
  {
    label: 'everything through CRM',
    commands: [],
    weight: 3,
    drain: true,
    measure: 'legacy',
  },
  {
    label: 'orders-direct at 10 %',
    commands: [['advance', 'orders-direct', '--share', '10%', ...who]],
    weight: 2,
    drain: false,
  },
  {
    label: 'orders-direct at 50 %',
    commands: [['advance', 'orders-direct', '--share', '50%', ...who]],
    weight: 2,
    drain: false,
    kill: 'child',
  },
  {
    label: 'orders-direct at 100 %',
    commands: [['advance', 'orders-direct', '--share', '100%', ...who]],
    weight: 2,
    drain: false,
    kill: 'supervisor',
  },
  {
    label: 'rolled back to CRM',
    commands: [['rollback', 'orders-direct', ...who]],
    weight: 2,
    drain: true,
  },
  {
    label: 'orders-direct at 100 % again',
    commands: [
      ['resume', 'orders-direct', ...who],
      ['advance', 'orders-direct', '--share', '100%', ...who],
    ],
    weight: 3,
    drain: true,
    measure: 'direct',
  },
  {
    label: 'statuses-direct at 10 %',
    commands: [['advance', 'statuses-direct', '--share', '10%', ...who]],
    weight: 2,
    drain: false,
  },
  {
    label: 'statuses-direct at 50 %',
    commands: [['advance', 'statuses-direct', '--share', '50%', ...who]],
    weight: 2,
    drain: false,
    kill: 'applier',
  },
  {
    label: 'statuses-direct at 100 %',
    commands: [['advance', 'statuses-direct', '--share', '100%', ...who]],
    weight: 2,
    drain: false,
    kill: 'applier and courier',
  },
  {
    label: 'statuses back to CRM',
    commands: [['rollback', 'statuses-direct', ...who]],
    weight: 2,
    drain: true,
  },
  {
    label: 'statuses-direct at 100 % again',
    commands: [
      ['resume', 'statuses-direct', ...who],
      ['advance', 'statuses-direct', '--share', '100%', ...who],
    ],
    weight: 3,
    drain: true,
    measure: 'statusesDirect',
  },
]

/** Drives real orders through the estate while the phases move forward, back and forward again, and their processes are killed. */
export async function runDemo(
  estate: Estate,
  orders: readonly InvoiceOrder[],
  models: readonly string[],
  progress: Progress,
): Promise<DemoOutcome> {
  const oracle = new EstateOracle(estate)
  const hashes = new Map<string, string>()
  const clients = new Map<string, Promise<number>>()
  const people = staff(estate.pages)
  let courierKills = 0
  let applierKills = 0
  const cost: Partial<Record<NonNullable<Part['measure']>, CarryingCost | undefined>> = {}

  const place = async (order: InvoiceOrder, index: number): Promise<void> => {
    let clientId: number | null = null
    if (order.customer !== undefined) {
      const known =
        clients.get(order.customer) ??
        registerClient(
          estate.pages,
          `client-${order.customer}@example.test`,
          `Client ${order.customer}`,
        )
      clients.set(order.customer, known)
      clientId = await known
    }
    const wish = {
      clientId,
      material: ['PLA', 'ABS', 'steel', 'silver'][index % 4]!,
      quantity: order.quantity,
      comment: order.comment,
    }
    const placed = await placeOrder(estate.pages, { ...wish, file: models[index % models.length]! })
    hashes.set(placed.id, placed.sha256)
  }

  const killCourier = async (how: 'child' | 'supervisor'): Promise<void> => {
    const courier = estate.process('courier')
    // A courier that has nothing in hand dies harmlessly: wait for one that does.
    const inHand = await courierHoldsOrders(estate)
    const children = descendantsOf(courier.pid)
    const before = await youngestCourier(estate)
    if (how === 'supervisor') courier.kill('SIGKILL')
    for (const pid of children) {
      try {
        process.kill(pid, 'SIGKILL')
      } catch {
        // It died with its supervisor.
      }
    }
    courierKills += 1
    if (how === 'supervisor') await courier.restart()
    await nextCourier(estate, before)
    progress.say(
      `  courier killed with SIGKILL with ${inHand} orders in hand (${how === 'child' ? 'a child; its supervisor starts another' : 'supervisor and child; started again'})`,
    )
  }

  const killApplier = async (): Promise<void> => {
    const applier = estate.process('applier')
    const open = await statusesAreOpen(estate)
    applier.kill('SIGKILL')
    applierKills += 1
    await applier.restart()
    progress.say(
      `  applier killed with SIGKILL with ${open} statuses not yet applied; started again`,
    )
  }

  const kill = async (what: NonNullable<Part['kill']>): Promise<void> => {
    if (what === 'child' || what === 'supervisor') return killCourier(what)
    await killApplier()
    if (what === 'applier and courier') await killCourier('child')
  }

  const drain = async (label: string): Promise<void> => {
    let stalledSince = performance.now()
    let before = -1
    for (;;) {
      const { orders: counts } = await oracle.findings()
      progress.bar(label, counts.closed, counts.submitted, 'closed')
      if (counts.closed === counts.submitted) return
      if (counts.closed !== before) stalledSince = performance.now()
      before = counts.closed
      // Not a limit for an order, only for this demo: it ends and tells instead of hanging.
      if (performance.now() - stalledSince > 60_000) {
        progress.say('  no order was closed for 60 s: going on to reconcile')
        return
      }
      await delay(200)
    }
  }

  let partner: PartnerFindings
  const whole = parts.reduce((sum, part) => sum + part.weight, 0)
  let next = 0
  try {
    for (const [number, part] of parts.entries()) {
      const until =
        number === parts.length - 1
          ? orders.length
          : Math.min(orders.length, next + Math.round((orders.length * part.weight) / whole))
      progress.say(
        `${number + 1}. ${part.label}: ${until - next} orders${part.commands.map((command) => `   $ strangler ${command.slice(0, -who.length).join(' ')}`).join('')}`,
      )
      for (const command of part.commands) {
        const result = await estate.strangler(...command)
        if (result.code !== 0)
          throw new Error(
            `strangler ${command.join(' ')} ended with ${result.code}: ${result.stdout}${result.stderr}`,
          )
      }
      const meter = new CarryingCostMeter(estate)
      if (part.measure !== undefined) await meter.start()
      const batch = orders
        .slice(next, until)
        .map((order, index) => ({ order, index: next + index }))
      const count = batch.length
      let placed = 0
      let killing: Promise<void> | undefined
      const killAt = part.kill === undefined ? -1 : Math.ceil(count / 2)
      const customers = Array.from({ length: 6 }, async () => {
        for (let job = batch.shift(); job !== undefined; job = batch.shift()) {
          await place(job.order, job.index)
          placed += 1
          progress.bar('submitted', placed, count)
          if (placed === killAt && part.kill !== undefined) killing = kill(part.kill)
        }
      })
      await Promise.all(customers)
      await killing
      next = until
      if (part.drain) await drain('through all statuses')
      if (part.measure !== undefined) cost[part.measure] = await meter.stop(count)
    }
    progress.say(`${parts.length + 1}. a partner moves behind the intake`)
    partner = await runPartners(estate, progress)
  } finally {
    await people.stop()
  }

  const findings = await oracle.findings()
  let hashMismatch = 0
  for (const [id, sha256] of hashes) if (findings.modelHashes.get(id) !== sha256) hashMismatch += 1
  const reconcile = await estate.strangler('reconcile', '--watermark', '0s', '--json')
  return {
    findings,
    uploaded: hashes.size,
    hashMismatch,
    perOrder: {
      legacy: cost.legacy,
      direct: cost.direct,
      statusesDirect: cost.statusesDirect,
    },
    statuses: await statusFindings(estate),
    partner,
    reconcile: { code: reconcile.code, stdout: reconcile.stdout },
    courierKills,
    applierKills,
    doubtsSettled: await settledDoubts(estate),
  }
}

/** Resolves as soon as a courier holds orders between claim and delivery, or with 0 when none came by for a while. */
async function courierHoldsOrders(estate: Estate): Promise<number> {
  return withClient(estate.databases.ledger, async (client) => {
    const patience = performance.now() + 5000
    for (;;) {
      const { rows } = await client.query<{ count: number }>(
        `SELECT count(*)::int AS count FROM order_ledger WHERE state = 'sending'`,
      )
      if (rows[0]!.count > 0 || performance.now() > patience) return rows[0]!.count
    }
  })
}

/** Resolves as soon as the inbox holds a status that is not applied, or with 0 when none came by for a while. */
async function statusesAreOpen(estate: Estate): Promise<number> {
  return withClient(estate.databases.ledger, async (client) => {
    const patience = performance.now() + 5000
    for (;;) {
      const { rows } = await client.query<{ count: number }>(
        `SELECT count(*)::int AS count FROM status_inbox WHERE state IN ('open', 'waiting')`,
      )
      if (rows[0]!.count > 0 || performance.now() > patience) return rows[0]!.count
    }
  })
}

/** The owner id of the youngest courier that lives; 0 = none does. */
async function youngestCourier(estate: Estate): Promise<number> {
  return withClient(estate.databases.ledger, async (client) => {
    const { rows } = await client.query<{ id: number }>(
      `SELECT coalesce(max(objid::int), 0) AS id FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = 42 AND objsubid = 2
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
    )
    return rows[0]!.id
  })
}

/** A person would not move on either before the courier is back. */
async function nextCourier(estate: Estate, after: number): Promise<void> {
  const patience = performance.now() + 30_000
  while ((await youngestCourier(estate)) <= after) {
    if (performance.now() > patience) throw new Error('no courier came back within 30 s')
    await delay(100)
  }
}

async function settledDoubts(estate: Estate): Promise<number> {
  return withClient(estate.databases.ledger, async (client) => {
    const { rows } = await client.query<{ count: number }>(
      `SELECT count(DISTINCT order_id)::int AS count FROM order_event WHERE hop = 'in doubt' AND kind = 'note'`,
    )
    return rows[0]!.count
  })
}
