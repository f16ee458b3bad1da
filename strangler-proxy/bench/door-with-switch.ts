import { epochLease } from '../../flags/replicas.ts'
import { createLog } from '../../runtime/log.ts'
import { runProcess } from '../../runtime/run-process.ts'
import { composeDoor } from '../compose-door.ts'

/*
 * The door of main.ts, whose lease begins and ends when the bench says so. One process, because two of the same program differ by
 * more than what is to be measured. A program of its own, like a main.ts.
 */

const log = createLog('strangler-proxy')

await runProcess(log, async () => {
  const { door, ledger } = await composeDoor(log)
  const lease = epochLease({ ledger, kind: 'proxy', log })
  process.on('message', (wanted) => {
    const switched = wanted === 'lease' ? lease.start() : lease.stop()
    switched.then(
      () => process.send?.({ type: 'switched' }),
      (error: unknown) => log.error('not_switched', {}, error),
    )
  })
  return {
    start: () => door.start(),
    async stop() {
      await lease.stop()
      await door.stop()
    },
    port: () => door.ports().shop,
  }
})
