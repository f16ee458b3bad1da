import { StranglerError } from '../../contracts/errors.ts'
import { durationForm, readDuration } from '../../runtime/duration.ts'

export { formatDuration } from '../../runtime/duration.ts'

/** `60s`, `10m`, `1.5h` to milliseconds. */
export function parseDuration(option: string, text: string): number {
  const ms = readDuration(text)
  if (ms !== undefined) return ms
  throw new StranglerError(
    'invalid_argument',
    `--${option} expected to be ${durationForm}, got ${text}`,
  )
}
