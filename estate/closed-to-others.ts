import { statSync } from 'node:fs'
import { dirname } from 'node:path'

/** The first folder on the way down to the path that other users may not enter. */
export function closedToOthers(path: string): string | undefined {
  const above = path === dirname(path) ? undefined : closedToOthers(dirname(path))
  if (above !== undefined) return above
  return (statSync(path).mode & 0o001) === 0 ? path : undefined
}
