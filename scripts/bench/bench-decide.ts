import { startProvisionedPostgres } from '../../estate/provisioned-postgres.ts'
import type { Alternated, Interval } from './alternate.ts'
import { benchDoor, type DoorBenchSize } from './bench-door.ts'
import { benchFlips, type FlipsResult } from './bench-flips.ts'
import { benchTrigger, type TriggerBenchSize } from './bench-trigger.ts'

export interface DecideBenchSize {
  readonly trigger: TriggerBenchSize
  readonly door: DoorBenchSize
  readonly flipsForSeconds: number
}

export interface DecideResult {
  readonly trigger: Alternated
  readonly door: Alternated
  readonly flips: FlipsResult
}

/** What it costs that the path of an order is decided, and decided anew a thousand times a minute. Embedded servers. */
export async function benchDecide(
  size: DecideBenchSize,
  say: (line: string) => void,
): Promise<DecideResult> {
  // A checkpoint would fall into some rounds only.
  const postgres = await startProvisionedPostgres({ max_wal_size: '4GB', checkpoint_timeout: '1h' })
  let trigger: Alternated
  let door: Alternated
  try {
    trigger = await benchTrigger(postgres, size.trigger)
    sayAlternated('submits by the Shop, 10 % in force', trigger, say)
    door = await benchDoor(postgres, size.door)
    sayAlternated('pages through the front door', door, say)
  } finally {
    await postgres.stop()
  }
  const flips = await benchFlips(size.flipsForSeconds)
  const { orders } = flips
  const kinds = flips.replicas.join(', ')
  say(
    `  ${flips.flipsPerMinute} flips/min, ${flips.completePerMinute} of them acknowledged by ${kinds} before the next`,
  )
  say(`    with ${orders.perSecond} orders/s   p50 ${orders.p50} ms   p99 ${orders.p99} ms`)
  say(
    `    ${flips.direct} direct, ${flips.legacy} legacy, ${flips.wrong.length} wrong, ${flips.topologyChanges} topology changes`,
  )
  return { trigger, door, flips }
}

function sayAlternated(what: string, measured: Alternated, say: (line: string) => void): void {
  const { ours, peer, ratio, p50Ratio, noise, blocks, rounds } = measured
  say(`  ${what}, ${blocks} times ${rounds} rounds`)
  for (const [name, rate] of Object.entries({ ours, peer }))
    say(`    ${name} ${rate.perSecond}/s   p50 ${rate.p50} ms   p99 ${rate.p99} ms`)
  say(`    ours / peer ${show(ratio)}, by p50 ${show(p50Ratio)}; peer / itself ${show(noise)}`)
}

function show({ median, low, high }: Interval): string {
  return `${median} (${low} to ${high})`
}
