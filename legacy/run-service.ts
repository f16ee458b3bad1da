import type { Log } from './log.ts'

export type RunningService = { readonly port: number; stop(): Promise<void> }

/** Ready line, signals and the parent's death, the same for each stand-in. */
export async function runService(
  log: Log,
  start: (abandoned: AbortSignal) => Promise<RunningService>,
): Promise<void> {
  const stopping = new AbortController()
  const stopAsked = new Promise<void>((resolve) => {
    const stop = () => {
      stopping.abort()
      resolve()
    }
    process.on('SIGTERM', stop)
    process.on('SIGINT', stop)
    process.on('disconnect', stop)
  })
  try {
    const service = await start(stopping.signal)
    process.stdout.write(`${JSON.stringify({ ready: true, port: service.port })}\n`)
    if (process.connected) process.send?.({ type: 'ready', port: service.port })
    await stopAsked
    await service.stop()
    process.exit(0)
  } catch (error) {
    if (stopping.signal.aborted) process.exit(0)
    log('start_failed', { reason: error instanceof Error ? error.message : String(error) })
    process.exit(1)
  }
}
