import { hostname, userInfo } from 'node:os'

/** Who runs the command, for the journal. */
export function identity(): string {
  try {
    return `${userInfo().username}@${hostname()}`
  } catch {
    // A uid without a name, as containers have it.
    return `uid ${process.getuid?.() ?? 'unknown'}@${hostname()}`
  }
}
