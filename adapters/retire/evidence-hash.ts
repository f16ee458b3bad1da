import { createHash } from 'node:crypto'

export interface HashedEvidence {
  readonly what: string
  readonly rows: number
  /** Of the rows as JSON, one a line, each ended by a line feed. */
  readonly sha256: string
}

/** Row by row, so that nothing has to be kept. */
export function evidenceHash(what: string): {
  add(rows: readonly unknown[]): void
  end(): HashedEvidence
} {
  const hash = createHash('sha256')
  let count = 0
  return {
    add(rows) {
      for (const row of rows) hash.update(`${JSON.stringify(row)}\n`)
      count += rows.length
    },
    end: () => ({ what, rows: count, sha256: hash.digest('hex') }),
  }
}
