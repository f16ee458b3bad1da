/** One thing that was looked at. `unsafe` = orders can be lost or doubled as it stands; `unread` = it could not be looked at. */
export interface Finding {
  readonly level: 'ok' | 'warn' | 'unsafe' | 'unread'
  /** The server, and what of it: `Redis appendonly`. */
  readonly subject: string
  readonly says: string
  /** What to do about it. */
  readonly fix?: string
}
