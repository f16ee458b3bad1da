/** PostgreSQL's "insufficient_privilege", also where somebody has wrapped it. */
export function lacksRights(error: unknown): boolean {
  for (let each = error; each instanceof Error; each = each.cause)
    if ('code' in each && each.code === '42501') return true
  return false
}

/** For DDL in a database that is not ours: no role of ours may do it, and none should. */
export function ownerNeeded(setting: string): string {
  return `${setting} must be the URL of the owner of that database (or of a superuser) for this`
}
