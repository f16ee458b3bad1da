import { connect, type ChannelModel } from 'amqplib'

import { legacyTopology } from './legacy-topology.ts'

/**
 * Run once by whoever provisions the estate, before the first change to it: declared again later,
 * the bindings would lead around a bridge that was put between exchange and queue.
 */
export async function declareLegacyTopology(url: string): Promise<void> {
  const connection = await open(url)
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
  const connection = await open(url)
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

/** The broker was not reached, or let us not in; says so without the URL, which holds a password. */
export class BrokerAway extends Error {
  override readonly name = 'BrokerAway'
}

async function open(url: string): Promise<ChannelModel> {
  try {
    return await connect(url, { timeout: 5000 })
  } catch (error) {
    throw new BrokerAway(`the broker does not answer: ${reasonOf(error)}`)
  }
}

/** With two addresses of one host that both refuse, only the parts have a message. */
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.message === '')
    return error.errors.map(reasonOf).join('; ')
  return error instanceof Error ? error.message : String(error)
}

// Exit codes: 0 declared, 1 refused, 2 bad usage, 3 the broker does not answer.
if (import.meta.main) {
  const { BROKER_URL: url } = process.env
  const [anew, ...also] = process.argv.slice(2)
  if (!url || !URL.canParse(url) || (anew !== undefined && anew !== '--anew')) {
    console.error(
      'usage: BROKER_URL=amqp://user:password@host:port/vhost node legacy/broker/declare-amqp.ts [--anew [NAME ...]]\n' +
        '  The URL comes in the environment, since everyone on the machine sees the arguments of a process.\n' +
        '  --anew  first delete the legacy exchanges and queues, and the queues and exchanges named after it',
    )
    process.exit(2)
  }
  try {
    if (anew === '--anew') await deleteLeftovers(url, also)
    await declareLegacyTopology(url)
    console.log('declared the legacy exchanges, queues and bindings')
  } catch (error) {
    console.error(reasonOf(error))
    process.exitCode = error instanceof BrokerAway ? 3 : 1
  }
}
