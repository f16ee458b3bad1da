import type { Partner } from './partners.ts'
import { Refusal } from './refusal.ts'

interface Bucket {
  tokens: number
  /** performance.now() */
  at: number
  uploads: number
}

export interface Quota {
  readonly limit: number
  readonly remaining: number
  /** Seconds until the bucket is full again. */
  readonly reset: number
}

/**
 * How much a partner may ask of this instance: a token bucket that holds a minute's requests, and a number of uploads at once. It
 * is kept in the process and asks nobody, so that no outage lifts it and none makes it refuse.
 */
export class Quotas {
  readonly #buckets = new Map<string, Bucket>()
  readonly #now: () => number

  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  /** @throws Refusal `too_many_requests` */
  spend(partner: Partner): void {
    const bucket = this.#refilled(partner)
    if (bucket.tokens < 1) {
      const seconds = Math.ceil(((1 - bucket.tokens) / partner.requestsPerMinute) * 60)
      throw new Refusal(
        'too_many_requests',
        `more than ${partner.requestsPerMinute} requests a minute`,
        { retryAfter: Math.max(1, seconds) },
      )
    }
    bucket.tokens -= 1
  }

  /**
   * A place for one upload; the caller gives it back.
   * @throws Refusal `too_many_uploads`
   */
  enterUpload(partner: Partner): () => void {
    const bucket = this.#refilled(partner)
    if (bucket.uploads >= partner.uploadsAtOnce)
      throw new Refusal('too_many_uploads', `more than ${partner.uploadsAtOnce} uploads at once`, {
        retryAfter: 1,
      })
    bucket.uploads += 1
    return () => {
      bucket.uploads -= 1
    }
  }

  left(partner: Partner): Quota {
    const { tokens } = this.#refilled(partner)
    const limit = partner.requestsPerMinute
    return {
      limit,
      remaining: Math.floor(tokens),
      reset: Math.ceil(((limit - tokens) / limit) * 60),
    }
  }

  #refilled({ id, requestsPerMinute }: Partner): Bucket {
    const now = this.#now()
    let bucket = this.#buckets.get(id)
    if (bucket === undefined) {
      bucket = { tokens: requestsPerMinute, at: now, uploads: 0 }
      this.#buckets.set(id, bucket)
    }
    const gained = ((now - bucket.at) / 60_000) * requestsPerMinute
    bucket.tokens = Math.min(requestsPerMinute, bucket.tokens + gained)
    bucket.at = now
    return bucket
  }
}
