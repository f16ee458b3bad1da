import { connect } from 'amqplib'

import { legacyTopology } from './legacy-topology.ts'

/**
 * Run once by whoever provisions the estate, before the first change to it: declared again later,
 * the bindings would lead around a bridge that was put between exchange and queue.
 */
export async function declareLegacyTopology(url: string): Promise<void> {
  const connection = await connect(url)
  try {
    const channel = await connection.createChannel()
    for (const { exchange, queue, keys } of legacyTopology) {
      await channel.assertExchange(exchange, 'topic', { durable: true })
      await channel.assertQueue(queue, { durable: true })
      for (const key of keys) await channel.bindQueue(queue, exchange, key)
    }
  } finally {
    await connection.close()
  }
}

/**
 * Deletes what an earlier estate left in this virtual host: the legacy exchanges (with every binding to them) and queues, and
 * the further queues and exchanges that are named. Refuses while somebody still consumes from one of the legacy queues.
 */
export async function deleteLeftovers(url: string, also: readonly string[]): Promise<void> {
  const connection = await connect(url)
  // A channel dies with the first check of a queue that is not there.
  connection.on('error', () => undefined)
  try {
    for (const { queue } of legacyTopology) {
      const channel = await connection.createChannel()
      channel.on('error', () => undefined)
      const found = await channel.checkQueue(queue).catch(() => undefined)
      if (found !== undefined && found.consumerCount > 0) {
        throw new Error(
          `${queue} has a consumer: another estate uses this virtual host; give a virtual host of its own`,
        )
      }
      await channel.close().catch(() => undefined)
    }
    const channel = await connection.createChannel()
    for (const { exchange, queue } of legacyTopology) {
      await channel.deleteExchange(exchange)
      await channel.deleteQueue(queue)
    }
    for (const name of also) {
      await channel.deleteExchange(name)
      await channel.deleteQueue(name)
    }
  } finally {
    await connection.close()
  }
}

if (import.meta.main) {
  const [url, anew, ...also] = process.argv.slice(2)
  if (url === undefined || (anew !== undefined && anew !== '--anew')) {
    console.error(
      'usage: node legacy/broker/declare-amqp.ts amqp://user:password@host:port/vhost [--anew [NAME ...]]\n' +
        '  --anew  first delete the legacy exchanges and queues, and the queues and exchanges named after it',
    )
    process.exit(2)
  }
  if (anew === '--anew') await deleteLeftovers(url, also)
  await declareLegacyTopology(url)
  console.log('declared the legacy exchanges, queues and bindings')
}
