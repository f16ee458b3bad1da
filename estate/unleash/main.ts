import { start } from 'unleash-server'

import { createLog } from '../../runtime/log.ts'

/*
 * The Unleash server as a child process. It reads its settings from the environment by itself and ends on SIGTERM by itself;
 * what it lacks is to say that it is ready, and to end when the one who started it is gone.
 */
process.on('disconnect', () => process.kill(process.pid, 'SIGTERM'))
try {
  const { server } = await start()
  const address = server?.address()
  if (typeof address !== 'object' || address === null) throw new Error('it listens on no port')
  process.send?.({ type: 'ready', port: address.port })
} catch (error) {
  createLog('unleash').error('start_failed', {}, error)
  process.exit(1)
}
