import { writeSync } from 'node:fs'

/**
 * Levels by what the person on call must do: `error` = act now (zero in health), `warn` = look today, `info` = a fact worth
 * keeping. Lines carry ids and counts, never a name, an address or a message body.
 */
export type Level = 'info' | 'warn' | 'error'

export type LogFields = Record<string, string | number | boolean | null | undefined>

export interface Log {
  info(event: string, fields?: LogFields): void
  warn(event: string, fields?: LogFields): void
  error(event: string, fields?: LogFields, cause?: unknown): void
}

/** One JSON object a line, on stderr: stdout belongs to the result of a command. */
export function createLog(part: string): Log {
  const write = (level: Level, event: string, fields: LogFields = {}, cause?: unknown): void => {
    const line = {
      at: new Date().toISOString(),
      level,
      part,
      event,
      ...fields,
      ...describeCause(cause),
    }
    try {
      writeSync(2, `${JSON.stringify(line)}\n`)
    } catch {
      // A full or closed stderr must not stop an order.
    }
  }
  return {
    info: (event, fields) => write('info', event, fields),
    warn: (event, fields) => write('warn', event, fields),
    error: (event, fields, cause) => write('error', event, fields, cause),
  }
}

function describeCause(cause: unknown): LogFields {
  if (cause === undefined) return {}
  if (!(cause instanceof Error))
    return { cause: typeof cause === 'string' ? cause : JSON.stringify(cause) }
  const code = 'code' in cause ? String(cause.code) : undefined
  return { cause: withoutSecrets(cause.message), ...(code === undefined ? {} : { code }) }
}

/** Connection errors quote URLs; the password in one must not reach a log. */
export function withoutSecrets(text: string): string {
  return text.replaceAll(/([a-z][a-z0-9+.-]*:\/\/[^:@/\s]*):[^@/\s]+@/gi, '$1:***@')
}
