const units = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const

export const durationForm = 'a duration such as 500ms, 60s, 10m, 2h or 1d'

/** `60s`, `10m`, `1.5h` to milliseconds; undefined: it is none. */
export function readDuration(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text.trim())
  const unit = Object.entries(units).find(([name]) => name === match?.[2])
  return match === null || unit === undefined ? undefined : Number(match[1]) * unit[1]
}

/** For a person: `0.41 ms`, `12.3 ms`, `4.56 s`, `3 min 12 s`, `5 h 7 min`. */
export function formatDuration(ms: number): string {
  if (ms < 10) return `${ms.toFixed(2)} ms`
  if (ms < 1000) return `${ms.toFixed(1)} ms`
  if (ms < 60_000) return `${(ms / 1000).toFixed(2)} s`
  const minutes = Math.floor(ms / 60_000)
  if (minutes < 60) return `${minutes} min ${Math.floor((ms % 60_000) / 1000)} s`
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}
