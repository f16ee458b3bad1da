import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

import { spawnNode } from '../../estate/child-process.ts'
import type { NodeProcess } from '../../estate/child-process.ts'
import type { EmbeddedPostgres } from '../../estate/embedded-postgres.ts'
import { startPrivateRabbitmq } from '../../estate/private-rabbitmq.ts'
import type { PrivateRabbitmq } from '../../estate/private-rabbitmq.ts'
import { startProvisionedPostgres } from '../../estate/provisioned-postgres.ts'
import type { Log } from '../../runtime/log.ts'
import { createPool } from '../../runtime/postgres.ts'
import type { Pool } from '../../runtime/postgres.ts'
import { openBroker } from '../broker/open-broker.ts'
import type { Broker, Delivery, Sender } from '../broker/port.ts'
import { legacyLinks } from '../wire/legacy-topology.ts'

export const quiet: Log = { info: () => {}, warn: () => {}, error: () => {} }

/** Servers, databases and roles around one bridge process, with the least rights each of them needs. */
export interface TestBed {
  readonly postgres: EmbeddedPostgres
  readonly rabbitmq: PrivateRabbitmq | undefined
  readonly broker: Broker
  /** As an operator. */
  readonly ledger: Pool
  /** As superuser. */
  readonly databases: { readonly ledger: Pool; readonly shop: Pool; readonly mes: Pool }
  startBridge(env?: Record<string, string>): Promise<NodeProcess>
  stop(): Promise<void>
}

export async function startTestBed(kind: Broker['kind']): Promise<TestBed> {
  const postgres = await startProvisionedPostgres()
  const rabbitmq = kind === 'rabbitmq' ? await startPrivateRabbitmq() : undefined
  const brokerUrl = rabbitmq?.url ?? postgres.urlFor('broker')
  const broker = openBroker(brokerUrl, {
    managementUrl: rabbitmq?.managementUrl,
    log: quiet,
  })
  for (const { exchange, queue, keys } of kind === 'rabbitmq' ? legacyLinks : []) {
    await broker.declareTopicExchange(exchange)
    await broker.declareQueue(queue)
    await broker.rebind({ add: keys.map((pattern) => ({ exchange, queue, pattern })), remove: [] })
  }
  const pool = (database: string, role?: string): Pool =>
    createPool(postgres.urlFor(database, role), { name: 'test', log: quiet })
  const databases = { ledger: pool('ledger'), shop: pool('shop'), mes: pool('mes') }
  const ledger = pool('ledger', 'operator_login')
  const running: NodeProcess[] = []
  return {
    postgres,
    rabbitmq,
    broker,
    ledger,
    databases,
    async startBridge(env = {}) {
      const child = spawnNode('bridge', fileURLToPath(new URL('main.ts', import.meta.url)), {
        env: {
          LEDGER_URL: postgres.urlFor('ledger', 'bridge_login'),
          SHOP_URL: postgres.urlFor('shop', 'bridge_login'),
          MES_URL: postgres.urlFor('mes', 'bridge_login'),
          BROKER_URL: brokerUrl,
          ...(rabbitmq === undefined ? {} : { AMQP_MANAGEMENT_URL: rabbitmq.managementUrl }),
          BRIDGE_SETTLE_MS: '500',
          ...env,
        },
      })
      running.push(child)
      await child.ready
      return child
    },
    async stop() {
      await Promise.all(running.map((child) => child.terminate()))
      await broker.close()
      await Promise.all([ledger, ...Object.values(databases)].map((each) => each.end()))
      await rabbitmq?.stop()
      await postgres.stop()
    },
  }
}

/**
 * Reads a legacy queue as the legacy does, and is the MES where it is the MES's: the row before the ack, no deduplication.
 * Only what the broker gives it again because its own ack was lost it does not count: that duplicate is not the bridge's.
 */
export class LegacyReader {
  readonly got: Delivery[] = []
  readonly #stored = new Set<string>()
  readonly #bed: TestBed
  readonly #queue: string
  readonly #closing = new AbortController()
  #running: Promise<void> = Promise.resolve()

  constructor(bed: TestBed, queue: string) {
    this.#bed = bed
    this.#queue = queue
    this.#running = this.#read()
  }

  of(orderId: string): Delivery[] {
    return this.got.filter(({ body }) => body.includes(orderId))
  }

  async close(): Promise<void> {
    this.#closing.abort()
    await this.#running
  }

  async #read(): Promise<void> {
    const { signal } = this.#closing
    const consumer = await this.#bed.broker.openConsumer(this.#queue, 200, signal)
    signal.addEventListener('abort', () => void consumer.close())
    while (!signal.aborted) {
      const deliveries = await consumer.next(100)
      const submitted = deliveries.filter(({ routingKey }) => routingKey === 'order.submitted')
      const orderIds = submitted
        .filter(({ body, redelivered }) => !redelivered || !this.#stored.has(orderIdOf(body)))
        .map(({ body }) => orderIdOf(body))
      for (let attempt = 1; ; attempt += 1) {
        if (await this.#store(orderIds, attempt).then(always, never)) break
        await delay(100)
      }
      for (const orderId of orderIds) this.#stored.add(orderId)
      this.got.push(...deliveries)
      await consumer.ack(deliveries)
    }
  }

  async #store(orderIds: readonly string[], attempt: number): Promise<void> {
    if (orderIds.length === 0) return
    await this.#bed.databases.mes.query(
      `INSERT INTO orders (order_id, source, status, model_key, model_sha256, model_bytes, material, quantity)
       SELECT id, 'shop', 'SUBMITTED', 'k', 's', 1, 'PLA', 1 FROM unnest($1::uuid[]) AS o(id)
       WHERE $2 = 1 OR NOT EXISTS (SELECT FROM orders WHERE order_id = o.id)`,
      // A statement whose connection broke may have been committed all the same.
      [orderIds, attempt],
    )
  }
}

const always = (): boolean => true
const never = (): boolean => false

function orderIdOf(body: Buffer): string {
  const found = /"orderId":"([^"]+)"/.exec(body.toString())
  return found?.[1] ?? ''
}

/** What CRM or the MES would send about an order. */
export function legacyPublish(
  sender: Sender,
  routingKey: string,
  orderId: string,
  extra: Readonly<Record<string, unknown>> = {},
): Promise<void> {
  const fromMes = /created|price|status/.test(routingKey)
  return sender.publish({
    exchange: fromMes ? 'mes.events' : 'crm.orders',
    routingKey,
    body: Buffer.from(
      JSON.stringify({
        orderId,
        source: 'shop',
        status: 'SUBMITTED',
        occurredAt: new Date().toISOString(),
        ...extra,
      }),
    ),
    properties: {
      contentType: 'application/json',
      headers: { 'x-sender': fromMes ? 'mes' : 'crm' },
    },
  })
}

/** Waits for a state that nothing signals; the test's own timeout ends it. */
export async function until(holds: () => Promise<boolean> | boolean): Promise<void> {
  while (!(await holds())) await delay(50)
}
