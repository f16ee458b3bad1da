import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

import { StranglerError } from '../contracts/errors.ts'
import { EstateOracle } from '../estate/estate-oracle.ts'
import { type Estate, startEstate } from '../estate/estate.ts'
import { violations } from '../estate/invariants.ts'
import { placeOrder, staff } from '../estate/people.ts'
import { withClient } from '../estate/postgres-server.ts'
import { findRabbitmqServer, startPrivateRabbitmq } from '../estate/private-rabbitmq.ts'
import { findRedisServer, startPrivateRedis } from '../estate/private-redis.ts'
import { writeSampleModels } from '../estate/sample-models.ts'
import { planFaults } from './chaos/fault-plan.ts'
import { FaultRunner } from './chaos/fault-runner.ts'
import { Redriven } from './chaos/redriven.ts'
import { readGuard, verdictOf } from './chaos/verdict.ts'
import { parseOnlyOptions } from './command-line/parse-options.ts'
import { runScript } from './command-line/run-script.ts'

const usage = `npm run chaos -- [options]

Lets orders flow through the whole estate, from the customer's click to CLOSED, while processes and servers are killed, stopped and
frozen and the phase flips back and forth; then heals, reconciles, and judges by the Shop DB and the MES DB.

  --orders N     how many orders (default 20000)
  --faults N     how many faults (default 50); two flips come with each
  --seed N       the plan of faults and flips follows from it alone (default 1)
  --real         on private Redis and RabbitMQ servers instead of the embedded ones
  --json         only the result on stdout

The MES guard is in: the MES of the estate, like any that does not deduplicate, would double an order by itself when a broker
delivers a message once more after a crash. What the guard dropped is reported, told apart by the broker's own flag: what the broker
delivered again is allowed, what was sent a second time counts as doubled. CRM loses an order when it is killed between its mark and
its send; "reconcile --redrive" runs until all is closed, and which orders it had to set going again is reported.

Exit codes: 0 nothing lost, nothing doubled, every order closed; 1 a difference; 2 bad usage or it could not run.`

const args = process.argv.slice(2)
await runScript('chaos', args, async () => {
  const values = parseOnlyOptions(
    {
      orders: { type: 'string' },
      faults: { type: 'string' },
      seed: { type: 'string' },
      real: { type: 'boolean' },
      json: { type: 'boolean' },
      help: { type: 'boolean' },
    },
    args,
  )
  if (values.help === true) {
    process.stdout.write(`${usage}\n`)
    return 0
  }
  return chaos({
    orders: wholeNumber('orders', values.orders ?? '20000', 1),
    faults: wholeNumber('faults', values.faults ?? '50', 0),
    seed: wholeNumber('seed', values.seed ?? '1', 0),
    real: values.real === true,
  })
})

interface Plan {
  readonly orders: number
  readonly faults: number
  readonly seed: number
  readonly real: boolean
}

function wholeNumber(option: string, given: string, least: number): number {
  const value = Number(given)
  if (/^\d+$/.test(given) && Number.isSafeInteger(value) && value >= least) return value
  throw new StranglerError(
    'invalid_argument',
    `--${option} expected to be a whole number from ${least}, got ${given}`,
  )
}

function say(line: string): void {
  process.stderr.write(`${line}\n`)
}

async function chaos(numbers: Plan): Promise<number> {
  const began = performance.now()
  const undo: (() => Promise<void>)[] = []
  try {
    if (numbers.real && (findRedisServer() === undefined || findRabbitmqServer() === undefined)) {
      throw new StranglerError('refused', '--real needs redis-server and rabbitmq-server here')
    }
    const redis = numbers.real
      ? await startPrivateRedis({ appendonly: 'everysec', policy: 'noeviction' })
      : undefined
    if (redis !== undefined) undo.push(() => redis.stop())
    const rabbitmq = numbers.real ? await startPrivateRabbitmq() : undefined
    if (rabbitmq !== undefined) undo.push(() => rabbitmq.stop())
    const estate = await startEstate({
      ...(redis === undefined ? {} : { queueUrl: redis.url }),
      ...(rabbitmq === undefined
        ? {}
        : { amqpUrl: rabbitmq.url, amqpManagementUrl: rabbitmq.managementUrl }),
      settings: { mes: { MES_PRICE_US_PER_TRIANGLE: '0' } },
      onStep: (step) => say(`  ${step}`),
    })
    undo.push(() => estate.stop())
    // The guard is DDL in the MES DB: a job for the owner of that database, not for the daily operator.
    const asMesOwner = { MES_URL: estate.databases.mes }
    for (const command of [
      ['bridge', 'insert'],
      ['mes-guard', 'install'],
    ]) {
      const result = await estate.stranglerWith(asMesOwner, ...command)
      if (result.code !== 0)
        throw new Error(
          `strangler ${command.join(' ')} ended with ${result.code}: ${result.stderr}`,
        )
    }
    const models = await mkdtemp(join(tmpdir(), 'strangler-chaos-'))
    undo.push(() => rm(models, { recursive: true, force: true }))
    const files = await writeSampleModels(models)

    const servers = numbers.real
      ? (['postgres', 'redis', 'rabbitmq'] as const)
      : (['postgres'] as const)
    const plan = planFaults({ ...numbers, servers })
    const faults = new FaultRunner(
      estate,
      {
        ...(redis === undefined ? {} : { redis }),
        ...(rabbitmq === undefined ? {} : { rabbitmq }),
      },
      plan,
      say,
    )
    // Enough people, each with a stack of orders in hand, that the servers and not the pages are the limit.
    const people = staff(estate.pages, {
      peoplePerDesk: 8,
      pagesAtOnce: 10,
      pauseMs: 200,
      idleMs: 500,
    })
    const oracle = new EstateOracle(estate)

    let left = numbers.orders
    let placed = 0
    await Promise.all(
      Array.from({ length: 8 }, async () => {
        while (left > 0) {
          left -= 1
          await placeOrder(estate.pages, {
            clientId: null,
            material: 'PLA',
            quantity: 1,
            file: files[0]!,
          })
          placed += 1
          faults.tick()
          if (placed % 1000 === 0)
            say(
              `  ${placed} of ${numbers.orders} orders submitted, ${Math.round((performance.now() - began) / 1000)} s`,
            )
        }
      }),
    )
    await faults.finish()
    say('  all submitted, all faults done: healing')

    const redriven = new Redriven()
    let closed = -1
    let movedAt = performance.now()
    let redrivenAt = Number.NEGATIVE_INFINITY
    for (;;) {
      const now = await oracle.progress()
      if (now.closed === now.submitted && now.inDoubt === 0) break
      const at = performance.now()
      const moving = now.closed !== closed
      if (moving) {
        closed = now.closed
        movedAt = at
      } else if (at - movedAt > 180_000) {
        break
      }
      say(
        `  ${now.closed} of ${now.submitted} closed, ${now.submitted - now.arrived} not in the MES yet, ${now.inDoubt} in doubt`,
      )
      // It walks everything: not while people are still busy closing what is well.
      if (!moving && at - redrivenAt > 15_000) {
        const result = await estate.strangler(
          'reconcile',
          '--redrive',
          '--watermark',
          '10s',
          '--json',
        )
        // A source may be away in this round: the next round tells.
        redriven.add(result.stdout)
        redrivenAt = performance.now()
      }
      await delay(3000)
    }
    await people.stop()

    const findings = await oracle.findings()
    const broken = await violations(estate, 'quiet')
    const guard = readGuard(
      (await estate.stranglerWith(asMesOwner, 'mes-guard', 'status', '--json')).stdout,
    )
    const { held, orders } = verdictOf({
      wanted: numbers.orders,
      orders: findings.orders,
      guard,
      brokenInvariants: broken.length,
    })
    const seconds = Math.round((performance.now() - began) / 1000)
    say(
      `${orders.submitted} orders, ${numbers.faults} faults, ${faults.flips} flips, ${seconds} s: ` +
        `${orders.lost} lost, ${orders.duplicated} doubled, ${orders.closed} closed, ${orders.inDoubt} in doubt. ${held ? 'HELD.' : 'BROKEN.'}`,
    )
    say(
      `  the broker delivered ${guard.droppedRedeliveries} orders again, ${guard.droppedSecondSends} were sent a second time (all dropped by the MES guard); ` +
        `redriven: ${JSON.stringify(redriven.counts)}`,
    )
    for (const each of broken)
      say(`  broken: ${each.invariant}: ${each.orderIds.slice(0, 10).join(' ')}`)
    if (!held)
      for (const id of [...(await sentTwice(estate)), ...findings.openIds].slice(0, 10))
        say((await estate.strangler('order', id)).stdout)
    process.stdout.write(
      `${JSON.stringify({ seed: numbers.seed, orders, faults: faults.done, flips: faults.flips, redriven: redriven.counts, guard, broken, parts: estate.parts, seconds })}\n`,
    )
    return held ? 0 : 1
  } finally {
    for (const each of undo.toReversed()) await each()
  }
}

async function sentTwice(estate: Estate): Promise<string[]> {
  return withClient(estate.databases.mes, async (client) => {
    const { rows } = await client.query<{ id: string }>(
      `SELECT DISTINCT order_id::text AS id FROM strangler.dropped_duplicate WHERE NOT redelivered LIMIT 10`,
    )
    return rows.map((row) => row.id)
  })
}
