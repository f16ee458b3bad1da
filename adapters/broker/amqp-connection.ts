import { setTimeout as delay } from 'node:timers/promises'

import { connect } from 'amqplib'
import type { Channel, ConfirmChannel } from 'amqplib'

import { asStranglerError } from '../../contracts/errors.ts'
import type { Log } from '../../runtime/log.ts'

/** One connection to RabbitMQ. It does not recover: whoever needs a living one opens the next. */
export interface AmqpConnection {
  readonly alive: boolean
  /** The broker has stopped reading because of an alarm of its own (memory, disk). */
  readonly blocked: boolean
  /** performance.now() when the last alarm ended; undefined when there was none. */
  readonly unblockedAt: number | undefined
  readonly user: string
  onLost(listener: (reason: string) => void): void
  /** A lost channel ends only itself; its promises reject. */
  openChannel(): Promise<Channel>
  openConfirmChannel(): Promise<ConfirmChannel>
  close(): Promise<void>
}

const heartbeatSeconds = 10
const closeWithinMs = 2000

/** @throws StranglerError `broker_unreachable` */
export async function openAmqpConnection(
  url: string,
  name: string,
  log: Log,
): Promise<AmqpConnection> {
  const target = new URL(url)
  if (!target.searchParams.has('heartbeat')) {
    target.searchParams.set('heartbeat', `${heartbeatSeconds}`)
  }
  const model = await connect(target.href, {
    timeout: 5000,
    keepAlive: true,
    noDelay: true,
    clientProperties: { connection_name: name },
  }).catch((error: unknown) => {
    throw asStranglerError(error, 'broker_unreachable')
  })
  let alive = true
  let blocked = false
  let unblockedAt: number | undefined
  const listeners: ((reason: string) => void)[] = []
  const { promise: ended, resolve: end } = Promise.withResolvers<void>()
  const lost = (reason: string): void => {
    end()
    if (!alive) return
    alive = false
    for (const listener of listeners) listener(reason)
  }
  // Without these listeners an 'error' would end the process.
  model.on('error', (error) => lost(error.message))
  model.on('close', (error) => lost(error?.message ?? 'closed'))
  model.on('blocked', (reason) => {
    blocked = true
    log.warn('broker_blocked', { connection: name, reason })
  })
  model.on('unblocked', () => {
    blocked = false
    unblockedAt = performance.now()
    log.info('broker_unblocked', { connection: name })
  })
  const watched = <Opened extends Channel>(channel: Opened): Opened => {
    channel.on('error', (error) => {
      log.info('channel_closed_by_broker', { connection: name, reason: error.message })
    })
    return channel
  }
  return {
    get alive() {
      return alive
    },
    get blocked() {
      return blocked
    },
    get unblockedAt() {
      return unblockedAt
    },
    user: target.username === '' ? 'guest' : decodeURIComponent(target.username),
    onLost(listener) {
      if (alive) listeners.push(listener)
      else listener('lost before')
    },
    openChannel: async () => watched(await model.createChannel()),
    openConfirmChannel: async () => watched(await model.createConfirmChannel()),
    async close() {
      const closing = (async () => model.close())().catch(() => undefined)
      // When the socket breaks during the closing handshake, its answer never comes.
      await Promise.race([closing, ended, delay(closeWithinMs, undefined, { ref: false })])
      lost('closed')
    },
  }
}

/** The AMQP reply code of an error: 403 refused, 404 not found, 405 locked by another connection, 406 not as declared. */
export function replyCode(error: unknown): number | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'number'
    ? error.code
    : undefined
}
