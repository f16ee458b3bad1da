/**
 * What the partner API refuses, a closed list: a code never changes its meaning. `title` is for strict partners (RFC 9457); the
 * detail of a single answer says what is wrong with that request. Whatever is refused has changed nothing, but for
 * `outcome_unknown`: there the order may have been made, and the same request again tells.
 */
export const partnerProblems = {
  unauthorized: { status: 401, title: 'The API key is not known' },
  malformed_multipart: { status: 400, title: 'The body can not be read' },
  malformed_request: { status: 400, title: 'The request can not be read' },
  request_cut: { status: 400, title: 'The request broke off' },
  invalid_field: { status: 400, title: 'A field is missing or wrong' },
  empty_model: { status: 400, title: 'The model file is empty' },
  too_large: { status: 413, title: 'A part of the request is too large' },
  model_too_large: { status: 413, title: 'The model is too large' },
  idempotency_key_missing: { status: 400, title: 'The Idempotency-Key is missing' },
  idempotency_key_invalid: { status: 400, title: 'The Idempotency-Key is not well formed' },
  request_differs: { status: 422, title: 'The order was submitted before with another content' },
  request_running: { status: 409, title: 'The same order is being submitted' },
  too_many_requests: { status: 429, title: 'Too many requests' },
  too_many_uploads: { status: 429, title: 'Too many uploads at once' },
  order_not_found: { status: 404, title: 'There is no such order' },
  not_found: { status: 404, title: 'There is no such address' },
  partner_moving: { status: 503, title: 'The way of the orders is being changed' },
  service_unavailable: { status: 503, title: 'The service can not take orders for a moment' },
  outcome_unknown: { status: 502, title: 'It is not known yet whether the order was made' },
  internal_error: { status: 500, title: 'The service failed' },
} as const satisfies Readonly<Record<string, { status: number; title: string }>>

export type PartnerProblem = keyof typeof partnerProblems
