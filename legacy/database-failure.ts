import { DatabaseError } from 'pg'

// 08 connection, 53 resources, 57 shutdown and cancel, 58 system, 40 rollback: the statement was not at fault.
const passing = ['08', '53', '57', '58', '40']

/** True when the database could not be asked; false when it understood and refused. */
export function isDatabaseUnavailable(error: unknown): boolean {
  if (error instanceof DatabaseError) return passing.includes(error.code?.slice(0, 2) ?? '')
  if (error instanceof AggregateError) return error.errors.some(isDatabaseUnavailable)
  if (!(error instanceof Error)) return false
  if ('syscall' in error && (error.syscall === 'connect' || error.syscall === 'read')) return true
  return /connection (terminated|timeout|error|timed out)|timeout (expired|exceeded)|not queryable|read timeout|ECONNRE/iu.test(
    error.message,
  )
}

/** True when sending the same values again can only fail again: data (22), constraints (23), RAISE (P0). */
export function isRefusedByDatabase(error: unknown): boolean {
  return error instanceof DatabaseError && /^(22|23|P0)/u.test(error.code ?? '')
}
