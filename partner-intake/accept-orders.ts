import { setTimeout as pause } from 'node:timers/promises'

import { failpoint } from '../runtime/failpoint.ts'
import { GroupCommit } from '../runtime/group-commit.ts'
import { isConnectionError, type Pool } from '../runtime/postgres.ts'
import type { Submission } from './read-submission.ts'
import { unavailable } from './refusal.ts'

/** What an order is asked under: its keys, and what tells one request from another. */
export interface OrderRequest {
  readonly partner: string
  /** Of the key that it came with. */
  readonly apiKeySha256: Buffer
  readonly submission: Submission
  /** Of its external id, and of the Idempotency-Key if it brought one. */
  readonly keys: readonly Buffer[]
  readonly sha256: Buffer
  /** The id that it gets if it is new here. */
  readonly orderId: string
  /** The answer that it gets then. */
  readonly status: number
  readonly body: Buffer
}

/** See accept_order in migrations/intake. */
export type AcceptOutcome =
  | {
      readonly outcome: 'accepted' | 'replayed'
      readonly orderId: string
      readonly status: number
      readonly body: Buffer
    }
  | { readonly outcome: 'differs' | 'running' | 'moving' | 'elsewhere' }
  /** The API key was revoked in the meantime. */
  | { readonly outcome: 'unauthorized' }
  | { readonly outcome: 'forward'; readonly pathEpoch: number; readonly pathReason: unknown }

interface OutcomeRow {
  n: number
  outcome: Exclude<AcceptOutcome['outcome'], 'unauthorized'>
  order_id: string | null
  status: number | null
  body: Buffer | null
  path_epoch: number | null
  path_reason: unknown
}

// Whether the key is still good is asked in the transaction that stores: what comes without is not there in the result.
const accept = `
  WITH i AS MATERIALIZED (
    SELECT i.*, EXISTS (SELECT FROM api_key k WHERE k.secret_sha256 = i.api_key AND k.partner = i.partner AND k.revoked_at IS NULL) AS welcome
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::uuid[], $6::text[], $7::text[], $8::int[], $9::text[],
      $10::text[], $11::text[], $12::bigint[], $13::int[], $14::bytea[], $15::bytea[]) WITH ORDINALITY
      AS i(partner, key_1, key_2, request, id, external_id, material, quantity, comment, model_key, model_sha256, model_bytes, status,
        body, api_key, n))
  SELECT i.n::int, a.* FROM i
  CROSS JOIN LATERAL accept_order(i.partner, array_remove(ARRAY[decode(i.key_1, 'hex'), decode(i.key_2, 'hex')], NULL), i.request, i.id,
    i.external_id, i.material, i.quantity, i.comment, i.model_key, i.model_sha256, i.model_bytes, i.status, i.body) a
  WHERE i.welcome`

const tryForMs = 5000

/**
 * Decides and stores orders, many in one statement and one commit. Whether a commit whose answer was lost has happened, the same
 * statement tells when it is repeated: the order's own keys are there, or they are not.
 */
export class AcceptOrders {
  readonly #pool: Pool
  readonly #commits: GroupCommit<OrderRequest, AcceptOutcome>

  constructor(pool: Pool) {
    this.#pool = pool
    this.#commits = new GroupCommit((requests) => this.#flush(requests), {
      maxRows: 200,
      maxInFlight: 1,
    })
  }

  /** @throws Refusal `service_unavailable`: nothing was accepted, as far as this side can know; the same request again tells */
  accept(request: OrderRequest): Promise<AcceptOutcome> {
    return this.#commits.push(request)
  }

  async #flush(requests: readonly OrderRequest[]): Promise<AcceptOutcome[]> {
    const until = performance.now() + tryForMs
    for (let tries = 0; ; tries += 1) {
      try {
        failpoint('intake.before-commit')
        const outcomes = await this.#once(requests, tries > 0)
        failpoint('intake.committed')
        return outcomes
      } catch (error) {
        const mayPass = isConnectionError(error) || isOfTwoAtOnce(error)
        if (!mayPass || performance.now() > until)
          throw mayPass ? unavailable('the order could not be stored, try again', error) : error
        await pause(Math.min(500, 20 * 2 ** tries))
      }
    }
  }

  async #once(requests: readonly OrderRequest[], again: boolean): Promise<AcceptOutcome[]> {
    // In one order in every process, so that two batches with the same keys wait for each other in one direction only.
    const sorted = requests
      .map((request, at) => ({ request, at, key: request.keys[0]!.toString('hex') }))
      .toSorted((a, b) => (a.key < b.key ? -1 : 1))
    const all = sorted.map(({ request }) => request)
    const { rows } = await this.#pool.query<OutcomeRow>({
      name: 'accept-orders',
      text: accept,
      values: [
        all.map(({ partner }) => partner),
        all.map(({ keys }) => keys[0]!.toString('hex')),
        all.map(({ keys }) => keys[1]?.toString('hex') ?? null),
        all.map(({ sha256 }) => sha256),
        all.map(({ orderId }) => orderId),
        all.map(({ submission }) => submission.externalId),
        all.map(({ submission }) => submission.material),
        all.map(({ submission }) => submission.quantity),
        all.map(({ submission }) => submission.comment),
        all.map(({ submission }) => submission.model.key),
        all.map(({ submission }) => submission.model.sha256),
        all.map(({ submission }) => submission.model.bytes),
        all.map(({ status }) => status),
        all.map(({ body }) => body),
        all.map(({ apiKeySha256 }) => apiKeySha256),
      ],
    })
    const outcomes = requests.map((): AcceptOutcome => ({ outcome: 'unauthorized' }))
    for (const row of rows) {
      const { request, at } = sorted[row.n - 1]!
      outcomes[at] = outcomeOf(row, again ? request.orderId : undefined)
    }
    return outcomes
  }
}

/** @param ours the order's new id, when the statement was repeated: then a replay of it is what was accepted the time before */
function outcomeOf(row: OutcomeRow, ours: string | undefined): AcceptOutcome {
  switch (row.outcome) {
    case 'accepted':
    case 'replayed':
      return {
        outcome: row.order_id === ours ? 'accepted' : row.outcome,
        orderId: row.order_id!,
        status: row.status!,
        body: row.body!,
      }
    case 'forward':
      return { outcome: 'forward', pathEpoch: row.path_epoch!, pathReason: row.path_reason }
    default:
      return { outcome: row.outcome }
  }
}

/** A deadlock or a serialization failure: one of two had to give way, and nothing of it was stored. */
function isOfTwoAtOnce(error: unknown): boolean {
  return error instanceof Error && 'code' in error && /^40(P01|001)$/u.test(String(error.code))
}
