/** All times by one clock that never goes back, in milliseconds. */
export interface AwaitedConfirm {
  /** Of the oldest message that is not confirmed. */
  readonly sentAt: number
  /** The broker has stopped reading because of an alarm of its own. */
  readonly blocked: boolean
  /** When the last alarm ended; undefined when there was none. */
  readonly unblockedAt: number | undefined
}

/**
 * Whether a broker that should have confirmed has not done so for too long. An alarm may last, and the messages wait in its
 * socket: it has its full time from the end of the alarm on. Else everything in flight would be in doubt after every longer
 * alarm (500 of 500 forwards went a second time after 12 s).
 */
export function confirmOverdue(
  { sentAt, blocked, unblockedAt = sentAt }: AwaitedConfirm,
  now: number,
  timeoutMs: number,
): boolean {
  return !blocked && now - Math.max(sentAt, unblockedAt) > timeoutMs
}
