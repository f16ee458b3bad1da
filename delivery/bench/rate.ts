/** A measured rate. Latencies in milliseconds. */
export interface Rate {
  readonly perSecond: number
  readonly p50: number
  readonly p99: number
  readonly count: number
}

export function rateOf(count: number, tookMs: number, latencies: readonly number[]): Rate {
  const sorted = latencies.toSorted((a, b) => a - b)
  const at = (share: number): number =>
    round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0)
  return { perSecond: Math.round((count / tookMs) * 1000), p50: at(0.5), p99: at(0.99), count }
}

function round(value: number): number {
  return Math.round(value * 100) / 100
}
