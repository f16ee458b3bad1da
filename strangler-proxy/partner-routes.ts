import { createHash, randomUUID } from 'node:crypto'
import { hostname } from 'node:os'

import { inOrder, type Service, service } from '../runtime/lifecycle.ts'
import type { Log } from '../runtime/log.ts'
import { pollLoop } from '../runtime/poll-loop.ts'
import type { Pool } from '../runtime/postgres.ts'
import { failureKinds, type Outcome } from './failure.ts'

/*
 * The partners' routes in force, and this proxy's word about them, which a partner that enters the intake waits for.
 *
 * - A snapshot is used as long as its version is acknowledged: one statement, every 200 ms, says which version is used here and
 *   how old the oldest write under way to the MES is, and learns the newest version. Without an acknowledgement for `leaseMs`, by
 *   our clock and counted from before it was asked, nobody may say where a partner's calls go.
 * - A proxy that is frozen keeps what it has begun. Writes that it has told of hold up an entering until it goes on or is known to
 *   be dead. One that it could not tell of any more is cut at its next byte after the lease, and counts until `settleMs` later: so
 *   `lease_ms` of the row is both together, and after it nothing untold is at work.
 */

export type PartnerSide = 'mes' | 'entering' | 'intake'

export interface PartnerRoutesOptions {
  readonly pool: Pool
  /** An exchange that ended without an answer of the MES counts so long: the MES may be about to store what it was sent. */
  readonly settleMs: number
  readonly leaseMs?: number
  /** Monotonic milliseconds. */
  readonly now?: () => number
  readonly log: Log
}

interface Snapshot {
  readonly version: number
  /** By the SHA-256 of a key, in hex. */
  readonly byKey: ReadonlyMap<string, { readonly partner: string; readonly side: PartnerSide }>
}

const beatMs = 200
const defaultLeaseMs = 3000

/** A partner's write on its way to the MES. */
export class MesWrite {
  readonly version: number
  readonly #mayGoOn: (write: MesWrite) => boolean
  readonly #ended: (write: MesWrite, answered: boolean) => void
  /** An acknowledged statement has told of it. */
  told = false
  /** By `now`; undefined while it is under way. */
  settledAt: number | undefined

  constructor(
    version: number,
    mayGoOn: (write: MesWrite) => boolean,
    ended: (write: MesWrite, answered: boolean) => void,
  ) {
    this.version = version
    this.#mayGoOn = mayGoOn
    this.#ended = ended
  }

  /** False: not one byte more may leave. */
  mayGoOn(): boolean {
    return this.#mayGoOn(this)
  }

  end(outcome: Outcome): void {
    this.#ended(this, isDecided(outcome))
  }
}

/** The MES has answered, or can't have anything of it. */
function isDecided(outcome: Outcome): boolean {
  if (outcome === 'passed') return true
  const { stage, orderState } = failureKinds[outcome]
  return orderState === 'not_sent' || (stage === 'answer_body' && outcome !== 'drained')
}

export class PartnerRoutes implements Service {
  readonly #options: PartnerRoutesOptions
  readonly #leaseMs: number
  readonly #now: () => number
  readonly #id = randomUUID()
  readonly #writes = new Set<MesWrite>()
  readonly #life: Service
  #snapshot: Snapshot | undefined
  #acknowledgedAt = Number.NEGATIVE_INFINITY
  #toldFresh = false

  constructor(options: PartnerRoutesOptions) {
    this.#options = options
    this.#leaseMs = options.leaseMs ?? defaultLeaseMs
    this.#now = options.now ?? (() => performance.now())
    const beat = pollLoop({
      name: 'partner routes',
      log: options.log,
      idleMs: () => beatMs,
      work: () => this.beat(),
    })
    const registration = service({
      // So that a door that opens knows its way. Without an answer it opens all the same, and the rounds go on asking.
      start: async () => {
        try {
          while (await this.beat());
        } catch {
          // The rounds tell of it.
        }
      },
      stop: () => this.#leave(),
    })
    this.#life = inOrder([registration, beat])
  }

  start(): Promise<void> {
    return this.#life.start()
  }

  stop(): Promise<void> {
    return this.#life.stop()
  }

  /** Where the calls with this key go; undefined: nobody may say so now. A key that is no partner's is the MES's business. */
  sideOf(key: string): PartnerSide | undefined {
    if (this.#snapshot === undefined || !this.#isFresh()) return undefined
    return this.#ofKey(key)?.side ?? 'mes'
  }

  /** Whose key it is, also of one that is revoked. */
  partnerOf(key: string): string | undefined {
    return this.#ofKey(key)?.partner
  }

  #ofKey(key: string) {
    return this.#snapshot?.byKey.get(createHash('sha256').update(key).digest('hex'))
  }

  /** A write that is sent to the MES by the snapshot in force. Whoever begins it ends it. */
  beginMesWrite(): MesWrite {
    const write = new MesWrite(
      this.#snapshot?.version ?? 0,
      ({ told }) => told || this.#isFresh(),
      (ended, answered) => {
        if (answered) this.#writes.delete(ended)
        else ended.settledAt = this.#now() + this.#options.settleMs
      },
    )
    this.#writes.add(write)
    return write
  }

  /** One round: acknowledges, and takes up a newer version. True when that is still to be acknowledged. */
  async beat(): Promise<boolean> {
    const { log } = this.#options
    if (this.#toldFresh && !this.#isFresh()) {
      this.#toldFresh = false
      log.warn('partner_routes_lapsed', { leaseMs: this.#leaseMs })
    }
    const askedAt = this.#now()
    const writes = this.#unsettled(askedAt)
    const newest = await this.#acknowledge(writes, this.#leaseMs + this.#options.settleMs)
    for (const write of writes) write.told = true
    if (this.#snapshot?.version !== newest) {
      // The old one is not good for longer by this: while it had lapsed, a partner may have entered without us.
      this.#snapshot = await this.#read()
      return true
    }
    this.#acknowledgedAt = askedAt
    if (!this.#toldFresh) log.info('partner_routes_in_force', { version: newest })
    this.#toldFresh = true
    return false
  }

  #isFresh(): boolean {
    return this.#now() - this.#acknowledgedAt < this.#leaseMs
  }

  #unsettled(now: number): MesWrite[] {
    for (const write of this.#writes)
      if (write.settledAt !== undefined && write.settledAt <= now) this.#writes.delete(write)
    return [...this.#writes]
  }

  async #acknowledge(writes: readonly MesWrite[], leaseMs: number): Promise<number> {
    const seen = this.#snapshot?.version ?? 0
    const { rows } = await this.#options.pool.query<{ newest: string }>({
      name: 'acknowledge-partner-routes',
      text: acknowledge,
      values: [
        this.#id,
        hostname(),
        process.pid,
        seen,
        Math.min(seen, ...writes.map(({ version }) => version)),
        writes.length,
        leaseMs,
      ],
    })
    return Number(rows[0]!.newest)
  }

  async #read(): Promise<Snapshot> {
    const { rows } = await this.#options.pool.query<{
      key: string | null
      partner: string
      route: PartnerSide
      version: string
    }>(
      `SELECT encode(secret_sha256, 'hex') AS key, partner, route, route_version AS version FROM partner_route`,
    )
    return {
      version: Math.max(0, ...rows.map(({ version }) => Number(version))),
      byKey: new Map(
        rows.flatMap(({ key, partner, route: side }) =>
          key === null ? [] : [[key, { partner, side }] as const],
        ),
      ),
    }
  }

  /** A row that is left behind lapses by itself; that of a proxy which ends in order does so at once, or when all has settled. */
  async #leave(): Promise<void> {
    const now = this.#now()
    const writes = this.#unsettled(now)
    const settlesIn = Math.max(
      0,
      ...writes.map(({ settledAt }) => (settledAt ?? now + this.#options.settleMs) - now),
    )
    const left =
      writes.length === 0
        ? this.#options.pool.query('DELETE FROM proxy_replica WHERE id = $1', [this.#id])
        : this.#options.pool.query(
            'UPDATE proxy_replica SET open_writes = 0, lease_ms = $2, seen_at = clock_timestamp() WHERE id = $1',
            [this.#id, Math.ceil(settlesIn)],
          )
    await left.catch(() => undefined)
    await this.#options.pool.end()
  }
}

const acknowledge = `
  INSERT INTO proxy_replica (id, host, pid, seen_version, oldest_open, open_writes, lease_ms)
  SELECT $1, $2, $3, $4, $5, $6, $7
  -- Five times a second: a crash of the server may take the last one with it.
  FROM (SELECT set_config('synchronous_commit', 'off', true)) AS s
  ON CONFLICT (id) DO UPDATE SET seen_version = excluded.seen_version, oldest_open = excluded.oldest_open,
    open_writes = excluded.open_writes, lease_ms = excluded.lease_ms, seen_at = clock_timestamp()
  RETURNING (SELECT coalesce(max(route_version), 0) FROM partner_route)::text AS newest`
