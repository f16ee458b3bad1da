import { StranglerError } from '../contracts/errors.ts'
import { optional, readConfig, text } from './config.ts'
import { armFailpoints } from './failpoint.ts'
import type { Service } from './lifecycle.ts'
import type { Log } from './log.ts'

interface Runnable extends Service {
  /** The port it listens on, when it listens. Known after the start. */
  port?(): number | undefined
}

/**
 * The life of a process of ours: start, say ready (IPC `{type:'ready', port}` and one line on stdout), then drain and exit 0
 * on SIGTERM, SIGINT or when the parent goes away. Exit 1 = could not start or could not drain.
 */
export async function runProcess(
  log: Log,
  construct: () => Runnable | Promise<Runnable>,
): Promise<void> {
  let running: Runnable | undefined
  let ending = false
  const end = async (why: string): Promise<void> => {
    if (ending) return
    ending = true
    log.info('stopping', { why })
    const deadline = setTimeout(() => {
      log.error('drain_deadline_exceeded')
      process.exit(1)
    }, 20_000)
    deadline.unref()
    try {
      await running?.stop()
      process.exit(0)
    } catch (error) {
      log.error('stop_failed', {}, error)
      process.exit(1)
    }
  }
  process.on('SIGTERM', () => void end('SIGTERM'))
  process.on('SIGINT', () => void end('SIGINT'))
  process.on('disconnect', () => void end('parent gone'))
  process.on('unhandledRejection', (reason) => {
    // A promise nobody owns may be an order nobody owns: stop loudly, the ledger knows what was in hand.
    log.error('unhandled_rejection', {}, reason)
    process.exit(1)
  })
  try {
    armFailpoints(readConfig({ FAILPOINTS: optional(text()) }).FAILPOINTS)
    running = await construct()
    await running.start()
    if (ending) return
    const port = running.port?.()
    process.send?.({ type: 'ready', port })
    process.stdout.write(`${JSON.stringify({ ready: true, port })}\n`)
  } catch (error) {
    const told = error instanceof StranglerError && error.code === 'invalid_configuration'
    log.error('start_failed', {}, told ? error.message : error)
    process.exit(1)
  }
}
