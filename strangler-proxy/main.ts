import { epochLease } from '../flags/replicas.ts'
import { createLog } from '../runtime/log.ts'
import { runProcess } from '../runtime/run-process.ts'
import { composeDoor } from './compose-door.ts'

const log = createLog('strangler-proxy')

await runProcess(log, async () => {
  const { door, ledger } = await composeDoor(log)
  // No phase moves anything of the proxy: partners' routes have their own acknowledgement (partner-routes.ts). By this one it is seen
  // among the replicas, also when it knows nothing of partners: `strangler partner enter` refuses while such a proxy runs.
  const lease = epochLease({ ledger, kind: 'proxy', log })
  return {
    async start() {
      await door.start()
      await lease.start()
      const ports = door.ports()
      process.send?.({ type: 'ports', ...ports })
      process.stdout.write(`${JSON.stringify({ listening: ports })}\n`)
    },
    async stop() {
      await lease.stop()
      await door.stop()
    },
    port: () => door.ports().shop,
  }
})
