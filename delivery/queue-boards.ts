import { setTimeout as delay } from 'node:timers/promises'

import { createBullBoard } from '@bull-board/api'
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter'
import { ExpressAdapter } from '@bull-board/express'
import type { Queue } from 'bullmq'
import type { Express } from 'express'

import type { Log } from '../runtime/log.ts'
import { openQueue } from './doorbell.ts'

/** The doorbells, by their names in BullMQ. */
const doorbells = ['orders', 'statuses'] as const

export interface QueueBoards {
  /** An Express application for `path`, without a login of its own. `reader`: its buttons are not there, and its server refuses what they do. */
  application(of: 'operator' | 'reader'): Express
  close(): Promise<void>
}

interface QueueBoardOptions {
  /** redis://, rediss:// or postgres:// */
  readonly url: string
  readonly prefix: string | undefined
  /** Where it is mounted, without a slash at the end. */
  readonly path: string
  readonly log: Log
}

/**
 * Bull Board over the doorbells. Whatever is done there, the ledger knows every order, and the couriers sweep. Nothing is
 * connected before somebody looks: a doorbell that is away is no matter of the console.
 */
export function queueBoards(options: QueueBoardOptions): QueueBoards {
  const { url, prefix, path } = options
  const log = seldom(options.log)
  let queues: readonly Queue[] | undefined
  const boards = new Map<boolean, Express>()
  const board = (readOnly: boolean): Express => {
    queues ??= doorbells.map((queue) =>
      openQueue({ url, queue, log, ...(prefix === undefined ? {} : { prefix }) }),
    )
    const server = new ExpressAdapter()
    server.setBasePath(path)
    createBullBoard({
      queues: queues.map((queue) => new BullMQAdapter(queue, { readOnlyMode: readOnly })),
      serverAdapter: server,
      options: {
        uiConfig: {
          boardTitle: readOnly ? 'Doorbells (read only)' : 'Doorbells',
          miscLinks: [{ text: 'Back to the console', url: '/' }],
        },
      },
    })
    const application: Express = server.getRouter()
    application.disable('x-powered-by')
    return application
  }
  return {
    application(of) {
      const readOnly = of === 'reader'
      const made = boards.get(readOnly) ?? board(readOnly)
      boards.set(readOnly, made)
      return made
    },
    async close() {
      // One that never came up does not close either.
      const closing = Promise.allSettled((queues ?? []).map((queue) => queue.close()))
      await Promise.race([closing, delay(2000, undefined, { ref: false })])
    },
  }
}

/** A doorbell that is away says so several times a second, and the couriers say it as well. */
function seldom(log: Log): Log {
  let last = -Infinity
  return {
    ...log,
    warn(event, fields) {
      if (performance.now() - last < 30_000) return
      last = performance.now()
      log.warn(event, fields)
    },
  }
}
