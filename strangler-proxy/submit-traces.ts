import { formatTraceparent } from '../contracts/trace-context.ts'
import { GroupCommit } from '../runtime/group-commit.ts'
import { type Service, service } from '../runtime/lifecycle.ts'
import type { Log } from '../runtime/log.ts'
import type { Pool } from '../runtime/postgres.ts'
import type { Exchange } from './exchange.ts'

interface SubmitTrace {
  readonly orderId: string
  readonly traceparent: string
}

export interface SubmitTraces extends Service {
  note(exchange: Exchange): void
}

const queueLimit = 1000
const statementMs = 2000
const flushMs = 1000

// It is there at once, and after a crash of the server not missed: it need not wait for the disk.
const insert = `
  INSERT INTO submit_trace (order_id, traceparent)
  SELECT n.order_id, n.traceparent
  FROM (SELECT set_config('synchronous_commit', 'off', true)) quick, unnest($1::text[], $2::text[]) AS n(order_id, traceparent)
  ON CONFLICT (order_id) DO UPDATE SET traceparent = excluded.traceparent, at = clock_timestamp()`

/**
 * Notes the trace of a submit in the ledger, where the relay finds it when it takes the order: the Shop in between carries no
 * header. Written while the Shop works, never awaited, and not repeated: one that comes too late, or not at all, leaves the order
 * the trace that is derived from its id, and the submit's own span in that of the client. Nothing is written where that is the
 * same: where no spans are made and the client brought no trace.
 * @param pool of one connection that stays: a new one would often come too late. It is ended with the service.
 */
export function submitTraces(pool: Pool, log: Log, spansAreMade: boolean): SubmitTraces {
  let waiting = 0
  let told = false
  const group = new GroupCommit<SubmitTrace, undefined>(
    async (noted) => {
      // Of a customer who submits twice the last one counts, also within one statement.
      const last = new Map(noted.map(({ orderId, traceparent }) => [orderId, traceparent]))
      const values = [[...last.keys()], [...last.values()]]
      const statement = { text: insert, values, query_timeout: statementMs }
      await pool.query(statement)
      told = false
      return noted.map(() => undefined)
    },
    { maxInFlight: 1 },
  )
  return {
    note({ request, route, trace }) {
      const { orderId, template } = route
      if (orderId === undefined || request.method !== 'POST') return
      if (template !== '/api/orders/:id/submit' || !(spansAreMade || trace.given)) return
      if (waiting >= queueLimit) return
      waiting += 1
      group
        .push({ orderId, traceparent: formatTraceparent(trace.context) })
        .catch((error: unknown) => {
          if (!told) log.warn('submit_trace_not_noted', { reason: String(error) })
          told = true
        })
        .finally(() => {
          waiting -= 1
        })
    },
    ...service({
      start() {
        if (spansAreMade) pool.query('SELECT 1').catch(() => undefined)
        return Promise.resolve()
      },
      async stop() {
        await Promise.race([
          group.drain(),
          new Promise<void>((resolve) => {
            setTimeout(resolve, flushMs).unref()
          }),
        ])
        await pool.end()
      },
    }),
  }
}
