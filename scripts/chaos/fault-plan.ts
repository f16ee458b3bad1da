import { processNames } from '../../estate/estate.ts'
import type { ProcessName } from '../../estate/estate.ts'
import { SeededRandom } from './seeded-random.ts'

export type Fault =
  | { readonly kind: 'kill' | 'stop'; readonly target: ProcessName }
  | { readonly kind: 'freeze'; readonly target: ProcessName; readonly ms: number }
  | { readonly kind: 'kill courier child' }
  | {
      readonly kind: 'server'
      readonly server: 'postgres' | 'redis' | 'rabbitmq'
      readonly how: 'kill' | 'wipe' | 'freeze'
      readonly ms: number
    }
  | { readonly kind: 'flip'; readonly phase: FlippedPhase; readonly share: string }

export type FlippedPhase = 'orders-direct' | 'statuses-direct'

export interface PlannedFault {
  /** Happens when so many orders have been submitted. */
  readonly atOrder: number
  readonly fault: Fault
}

const phases: readonly FlippedPhase[] = ['orders-direct', 'statuses-direct']
const shares = ['0%', '10%', '50%', '90%', '100%'] as const

/** The whole run of faults, from the seed alone: which, to whom, when (counted in orders, not in time). */
export function planFaults(options: {
  seed: number
  orders: number
  faults: number
  servers: readonly ('postgres' | 'redis' | 'rabbitmq')[]
}): PlannedFault[] {
  const random = new SeededRandom(options.seed)
  const plan: PlannedFault[] = []
  for (let n = 0; n < options.faults; n += 1) {
    // Spread over the run, each somewhere in its own stretch.
    const atOrder = Math.floor(((n + random.next()) / options.faults) * options.orders)
    plan.push({ atOrder, fault: anyFault(random, options.servers) })
    // Flips storm between the faults: they are no faults, and must cost nothing.
    const stretch = options.orders / options.faults
    for (const phase of phases) {
      const at = Math.floor((n + random.next()) * stretch)
      plan.push({ atOrder: at, fault: { kind: 'flip', phase, share: random.pick(shares) } })
    }
  }
  return plan.toSorted((a, b) => a.atOrder - b.atOrder)
}

function anyFault(
  random: SeededRandom,
  servers: readonly ('postgres' | 'redis' | 'rabbitmq')[],
): Fault {
  const dice = random.next()
  const ms = 500 + random.below(4000)
  if (dice < 0.3) return { kind: 'kill', target: random.pick(processNames) }
  if (dice < 0.45) return { kind: 'kill courier child' }
  if (dice < 0.6) return { kind: 'stop', target: random.pick(processNames) }
  if (dice < 0.8) return { kind: 'freeze', target: random.pick(processNames), ms }
  const server = random.pick(servers)
  if (server === 'redis')
    return { kind: 'server', server, how: random.pick(['kill', 'wipe', 'freeze'] as const), ms }
  return { kind: 'server', server, how: random.pick(['kill', 'freeze'] as const), ms }
}

export function describeFault(fault: Fault): string {
  switch (fault.kind) {
    case 'kill':
      return `kill -9 ${fault.target}`
    case 'stop':
      return `SIGTERM ${fault.target}`
    case 'freeze':
      return `freeze ${fault.target} for ${fault.ms} ms`
    case 'kill courier child':
      return 'kill -9 a courier child'
    case 'server':
      return fault.how === 'freeze'
        ? `freeze ${fault.server} for ${fault.ms} ms`
        : `${fault.how === 'wipe' ? 'kill -9 and wipe' : 'kill -9'} ${fault.server}`
    default:
      return `flip ${fault.phase} to ${fault.share}`
  }
}
