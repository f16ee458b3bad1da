import { MalformedMultipart } from '../contracts/multipart-reader.ts'
import { type PartnerProblem, partnerProblems } from '../contracts/partner-problems.ts'
import { isConnectionError } from '../runtime/postgres.ts'

/** A request that is answered with an error of its own. */
export class Refusal extends Error {
  override readonly name = 'Refusal'
  readonly code: PartnerProblem
  /** Where in the request, for strict partners: a JSON pointer into the form, or `#/parameters/<name>`. */
  readonly pointer: string | undefined
  /** Seconds after which the same request may do better. */
  readonly retryAfter: number | undefined

  constructor(
    code: PartnerProblem,
    detail: string,
    more: {
      readonly pointer?: string
      readonly retryAfter?: number
      readonly cause?: unknown
    } = {},
  ) {
    super(detail, more.cause === undefined ? {} : { cause: more.cause })
    this.code = code
    this.pointer = more.pointer
    this.retryAfter = more.retryAfter
  }

  get status(): number {
    return partnerProblems[this.code].status
  }
}

export function invalidField(name: string, detail: string): Refusal {
  return new Refusal('invalid_field', detail, { pointer: `#/${name}` })
}

/** Nothing of the request was stored: it may be sent again at once, and should be in a moment. */
export function unavailable(detail: string, cause: unknown): Refusal {
  return new Refusal('service_unavailable', detail, { retryAfter: 1, cause })
}

/** What the client gets for whatever was thrown on the way. */
export function refusalOf(error: unknown): Refusal {
  if (error instanceof Refusal) return error
  if (error instanceof MalformedMultipart) return new Refusal('malformed_multipart', error.message)
  if (isConnectionError(error) || isBusy(error))
    return unavailable('the database is away, try again', error)
  if (error instanceof URIError) return new Refusal('not_found', 'no such address')
  if (error instanceof Error) {
    const code = 'code' in error ? error.code : undefined
    if (code === 'ECONNRESET' || code === 'ERR_STREAM_PREMATURE_CLOSE')
      return new Refusal('request_cut', 'the request broke off')
    const status = 'status' in error && typeof error.status === 'number' ? error.status : 500
    if (status >= 400 && status < 500)
      return new Refusal('malformed_request', 'the request cannot be read')
  }
  return new Refusal('internal_error', 'the service failed', { cause: error })
}

/** The database gave the statement up (57014, 55P03) or has no room for it (53): the statement was not at fault. */
function isBusy(error: unknown): boolean {
  return error instanceof Error && 'code' in error && /^(53|57014|55P03)/u.test(String(error.code))
}
