import { createHash, randomUUID } from 'node:crypto'
import { mkdir, rename, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'

import type { Broker, Delivery } from '../broker/broker-port.ts'
import { connectBroker } from '../broker/broker.ts'
import {
  eventually,
  legacyUnderTest,
  type LegacyUnderTest,
  type Started,
} from '../legacy-under-test.ts'

export type MesRow = {
  readonly id: string
  readonly status: string
  readonly price: string | null
  readonly operator: string | null
  readonly model_read_sha256: string | null
  readonly partner: string | null
}

/** A MES process with a test in the place of the CRM. */
export class MesUnderTest {
  readonly legacy: LegacyUnderTest
  readonly process: Started['process']
  readonly origin: string
  readonly #broker: Broker
  readonly #events: Delivery[] = []

  private constructor(legacy: LegacyUnderTest, mes: Started, broker: Broker) {
    this.legacy = legacy
    this.process = mes.process
    this.origin = mes.origin
    this.#broker = broker
    broker.consume('crm.events', 10, async (delivery) => {
      this.#events.push(delivery)
    })
  }

  static async start(): Promise<MesUnderTest> {
    const legacy = await legacyUnderTest()
    const mes = await legacy.start('mes', {
      MES_PARTNERS: JSON.stringify({ 'key-a': 'Acme', 'key-b': 'Bolt' }),
    })
    return new MesUnderTest(legacy, mes, await connectBroker(legacy.urls.broker, { log: () => {} }))
  }

  async stop(): Promise<void> {
    await this.#broker.close()
    await this.legacy.stop()
  }

  rows(id: string): Promise<MesRow[]> {
    return this.legacy.query('mes', 'SELECT * FROM orders WHERE order_id = $1 ORDER BY id', [id])
  }

  events(id: string, key: string): Delivery[] {
    return this.#events.filter((event) => event.routingKey === key && event.body.includes(id))
  }

  async tell(key: string, message: object | string): Promise<void> {
    const text = typeof message === 'string' ? message : JSON.stringify(message)
    await this.#broker.publishConfirmed('crm.orders', key, Buffer.from(text), {})
  }

  async putModel(content: Buffer) {
    const reference = referenceTo(content)
    await this.putModelAs(reference.key, content)
    return reference
  }

  async putModelAs(key: string, content: Buffer): Promise<void> {
    const path = join(this.legacy.models, key)
    await mkdir(dirname(path), { recursive: true })
    // As the Shop does: who looks for a model finds all of it or nothing.
    const part = `${path}.${randomUUID()}`
    await writeFile(part, content)
    await rename(part, path)
  }

  async approvedOrder(): Promise<string> {
    const id = randomUUID()
    await this.tell('order.submitted', submitted(id, await this.putModel(binaryStl(1))))
    await eventually(async () => (await this.rows(id))[0]?.status === 'PRICE_CALCULATED')
    await this.tell('order.approved', { orderId: id, source: 'shop' })
    await eventually(async () => (await this.rows(id))[0]?.status === 'MANUFACTURING_APPROVED')
    return id
  }

  step(id: string, name: string, fields: Readonly<Record<string, string>> = {}): Promise<Response> {
    return fetch(`${this.origin}/orders/${id}/${name}`, {
      method: 'POST',
      body: new URLSearchParams(fields),
      redirect: 'manual',
    })
  }
}

export function binaryStl(triangles: number): Buffer {
  const model = Buffer.alloc(84 + 50 * triangles)
  model.writeUInt32LE(triangles, 80)
  return model
}

export function referenceTo(content: Buffer) {
  const sha256 = createHash('sha256').update(content).digest('hex')
  return { key: `models/${sha256.slice(0, 2)}/${sha256}`, sha256, bytes: content.length }
}

export function submitted(id: string, model: object) {
  return {
    orderId: id,
    source: 'shop',
    status: 'SUBMITTED',
    occurredAt: new Date().toISOString(),
    clientId: 7,
    customerTier: 'standard',
    material: 'PLA',
    quantity: 1,
    comment: '<i>no</i>',
    model,
  }
}
