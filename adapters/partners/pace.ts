/** Orders a minute. The MES prices one at a time, for minutes each: what it can do stays far below, and its pages do not feel this. */
export const usualPacePerMinute = 120

export interface Pace {
  /** How many may go now: as many as the time since the last ones allows, at most those of one second. */
  due(): number
  went(orders: number): void
}

/** A token bucket, held by the process: two relays together go at twice the pace. `now` in milliseconds, monotonic. */
export function pace(perMinute: number, now: () => number = () => performance.now()): Pace {
  const perMs = perMinute / 60_000
  const most = Math.max(1, perMinute / 60)
  let tokens = most
  let at = now()
  const fill = (): void => {
    const since = now() - at
    at += since
    tokens = Math.min(most, tokens + since * perMs)
  }
  return {
    due() {
      fill()
      return Math.floor(tokens)
    },
    went(orders) {
      tokens -= orders
    },
  }
}
