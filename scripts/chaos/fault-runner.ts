import { setTimeout as delay } from 'node:timers/promises'

import { parseShare } from '../../contracts/path-share.ts'
import type { Estate } from '../../estate/estate.ts'
import type { PrivateRabbitmq } from '../../estate/private-rabbitmq.ts'
import type { PrivateRedis } from '../../estate/private-redis.ts'
import { descendantsOf } from '../../estate/process-table.ts'
import { advancePhase, lowerPhase, phaseStatus } from '../../flags/phase-journal.ts'
import { createLog } from '../../runtime/log.ts'
import { createPool, type Pool } from '../../runtime/postgres.ts'
import { describeFault, type Fault, type FlippedPhase, type PlannedFault } from './fault-plan.ts'

export interface Servers {
  readonly redis?: PrivateRedis
  readonly rabbitmq?: PrivateRabbitmq
}

/** Carries out a plan: each fault when its order has been submitted, one after the other, each healed before the next. */
export class FaultRunner {
  readonly #estate: Estate
  readonly #servers: Servers
  readonly #plan: PlannedFault[]
  readonly #say: (line: string) => void
  readonly done: Record<string, number> = {}
  flips = 0
  readonly #ledger: Pool
  readonly #shop: Pool
  #submitted = 0
  #working: Promise<void> = Promise.resolve()
  #busy = false

  constructor(
    estate: Estate,
    servers: Servers,
    plan: readonly PlannedFault[],
    say: (line: string) => void,
  ) {
    this.#estate = estate
    this.#servers = servers
    this.#plan = [...plan]
    this.#say = say
    const log = createLog('chaos')
    this.#ledger = createPool(estate.operatorEnvironment['LEDGER_URL']!, { name: 'chaos', log })
    this.#shop = createPool(estate.operatorEnvironment['SHOP_URL']!, { name: 'chaos', log })
  }

  /** One more order is submitted. */
  tick(): void {
    this.#submitted += 1
    if (this.#busy) return
    this.#busy = true
    this.#working = this.#work().finally(() => {
      this.#busy = false
    })
  }

  /** Carries out what is left of the plan, then heals everything. */
  async finish(): Promise<void> {
    await this.#working
    this.#submitted = Number.POSITIVE_INFINITY
    await this.#work()
    for (const child of this.#estate.processes.values()) child.resume()
    await this.#ledger.end()
    await this.#shop.end()
  }

  async #work(): Promise<void> {
    for (;;) {
      const next = this.#plan[0]
      if (next === undefined || next.atOrder > this.#submitted) return
      this.#plan.shift()
      await this.#carryOut(next.fault)
    }
  }

  async #carryOut(fault: Fault): Promise<void> {
    if (fault.kind !== 'flip') {
      const kind = fault.kind === 'server' ? `${fault.how} ${fault.server}` : fault.kind
      this.done[kind] = (this.done[kind] ?? 0) + 1
      this.#say(`  after ${this.#submitted} orders: ${describeFault(fault)}`)
    }
    switch (fault.kind) {
      case 'kill':
        this.#estate.process(fault.target).kill('SIGKILL')
        await this.#estate.process(fault.target).exited
        await this.#restart(fault.target)
        return
      case 'stop':
        await this.#restart(fault.target)
        return
      case 'freeze': {
        const frozen = this.#estate.process(fault.target)
        frozen.pause()
        await delay(fault.ms)
        frozen.resume()
        return
      }
      case 'kill courier child':
        for (const pid of descendantsOf(this.#estate.process('courier').pid)) {
          try {
            process.kill(pid, 'SIGKILL')
          } catch {
            // It ended by itself meanwhile.
          }
        }
        return
      case 'server':
        await this.#hitServer(fault)
        return
      case 'flip':
        await this.#flip(fault.phase, fault.share)
        return
      default:
        fault satisfies never
    }
  }

  async #flip(phase: FlippedPhase, share: string): Promise<void> {
    const wanted = parseShare(share)!
    const move = {
      ledger: this.#ledger,
      seam: phase === 'orders-direct' ? this.#shop : this.#ledger,
      phase,
      who: 'chaos',
      why: 'storm',
    }
    try {
      const { share: inForce } = await phaseStatus(move)
      await (wanted < inForce ? lowerPhase : advancePhase)({ ...move, share: wanted })
      this.flips += 1
    } catch (error) {
      this.#say(
        `  a flip met a server that is away: ${error instanceof Error ? error.message : String(error)}`,
      )
    }
  }

  /** A process that can't come up at once because a server is away is started until it does, as any init would. */
  async #restart(name: Parameters<Estate['process']>[0]): Promise<void> {
    for (let tries = 0; ; tries += 1) {
      try {
        await this.#estate.process(name).restart()
        return
      } catch (error) {
        if (tries === 20) throw error
        await delay(500)
      }
    }
  }

  async #hitServer(fault: Extract<Fault, { kind: 'server' }>): Promise<void> {
    const server =
      fault.server === 'postgres'
        ? this.#estate.postgres
        : fault.server === 'redis'
          ? this.#servers.redis
          : this.#servers.rabbitmq
    if (server === undefined) return
    if (fault.how === 'freeze') {
      server.pause()
      await delay(fault.ms)
      server.resume()
    } else if (fault.server === 'redis') {
      await this.#servers.redis?.restart('kill9', { wipe: fault.how === 'wipe' })
    } else {
      await server.restart('kill9')
    }
  }
}
