export type Log = (event: string, details?: Readonly<Record<string, unknown>>) => void

/** One JSON line per event on stderr; stdout belongs to the ready line. */
export function logAs(service: string): Log {
  return (event, details = {}) => {
    process.stderr.write(
      `${JSON.stringify({ at: new Date().toISOString(), service, event, ...details })}\n`,
    )
  }
}
