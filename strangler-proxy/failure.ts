interface FailureKind {
  readonly stage:
    | 'head'
    | 'wait'
    | 'connect'
    | 'request_body'
    | 'answer_head'
    | 'answer_body'
    | 'upgrade'
  readonly side: 'client' | 'upstream' | 'ours'
  /** What the client is answered. 499 and 0 are never sent: the client is gone, or its connection is cut. */
  readonly status: number
  /** `not_sent` only when the upstream can't have a byte of the request: then a resend is safe for any method. */
  readonly orderState: 'not_sent' | 'unknown'
  readonly says: string
}

/** The closed list of how a proxied request can fail here. The code is the metric label, and never changes its meaning. */
export const failureKinds = {
  duplicate_header: {
    stage: 'head',
    side: 'client',
    status: 400,
    orderState: 'not_sent',
    says: 'A header that may appear only once appears more than once.',
  },
  unsupported_target: {
    stage: 'head',
    side: 'client',
    status: 400,
    orderState: 'not_sent',
    says: 'The form of the request target is not passed on.',
  },
  body_not_allowed: {
    stage: 'head',
    side: 'client',
    status: 400,
    orderState: 'not_sent',
    says: 'This method takes no body here.',
  },
  no_upgrade_route: {
    stage: 'upgrade',
    side: 'client',
    status: 404,
    orderState: 'not_sent',
    says: 'No route takes an upgrade or a tunnel here.',
  },
  partner_route_unknown: {
    stage: 'head',
    side: 'ours',
    status: 503,
    orderState: 'not_sent',
    says: 'Where the calls of partners go is not known for a moment.',
  },
  overloaded: {
    stage: 'wait',
    side: 'ours',
    status: 503,
    orderState: 'not_sent',
    says: 'Too many requests are waiting for the system behind.',
  },
  wait_aborted: {
    stage: 'wait',
    side: 'client',
    status: 499,
    orderState: 'not_sent',
    says: 'The client left while waiting for a connection.',
  },
  name_not_found: {
    stage: 'connect',
    side: 'upstream',
    status: 502,
    orderState: 'not_sent',
    says: 'The name of the system behind is not known.',
  },
  refused: {
    stage: 'connect',
    side: 'upstream',
    status: 502,
    orderState: 'not_sent',
    says: 'The system behind refuses connections.',
  },
  connect_failed: {
    stage: 'connect',
    side: 'upstream',
    status: 502,
    orderState: 'not_sent',
    says: 'The system behind can not be reached.',
  },
  connect_timeout: {
    stage: 'connect',
    side: 'upstream',
    status: 504,
    orderState: 'not_sent',
    says: 'The system behind did not take the connection in time.',
  },
  connect_aborted: {
    stage: 'connect',
    side: 'client',
    status: 499,
    orderState: 'not_sent',
    says: 'The client left before the request was sent.',
  },
  body_reset: {
    stage: 'request_body',
    side: 'upstream',
    status: 502,
    orderState: 'unknown',
    says: 'The system behind broke off while it was being sent the request.',
  },
  body_timeout: {
    stage: 'request_body',
    side: 'upstream',
    status: 504,
    orderState: 'unknown',
    says: 'The system behind stopped taking the request.',
  },
  client_too_slow: {
    stage: 'request_body',
    side: 'client',
    status: 408,
    orderState: 'unknown',
    says: 'The rest of the request did not arrive in time.',
  },
  partner_route_lapsed: {
    stage: 'request_body',
    side: 'ours',
    status: 503,
    orderState: 'unknown',
    says: 'Where the calls of partners go has become unknown while this one was being sent.',
  },
  body_aborted: {
    stage: 'request_body',
    side: 'client',
    status: 499,
    orderState: 'unknown',
    says: 'The client left in the middle of its request.',
  },
  head_reset: {
    stage: 'answer_head',
    side: 'upstream',
    status: 502,
    orderState: 'unknown',
    says: 'The system behind broke off without an answer.',
  },
  head_timeout: {
    stage: 'answer_head',
    side: 'upstream',
    status: 504,
    orderState: 'unknown',
    says: 'The system behind did not answer in time.',
  },
  malformed_answer: {
    stage: 'answer_head',
    side: 'upstream',
    status: 502,
    orderState: 'unknown',
    says: 'The answer of the system behind can not be passed on.',
  },
  head_aborted: {
    stage: 'answer_head',
    side: 'client',
    status: 499,
    orderState: 'unknown',
    says: 'The client left before the answer.',
  },
  answer_cut: {
    stage: 'answer_body',
    side: 'upstream',
    status: 0,
    orderState: 'unknown',
    says: 'The system behind broke off in the middle of its answer.',
  },
  answer_timeout: {
    stage: 'answer_body',
    side: 'upstream',
    status: 0,
    orderState: 'unknown',
    says: 'The answer stood still.',
  },
  answer_aborted: {
    stage: 'answer_body',
    side: 'client',
    status: 499,
    orderState: 'unknown',
    says: 'The client left in the middle of the answer.',
  },
  drained: {
    stage: 'answer_body',
    side: 'ours',
    status: 503,
    orderState: 'unknown',
    says: 'This process is shutting down.',
  },
  internal: {
    stage: 'head',
    side: 'ours',
    status: 500,
    orderState: 'unknown',
    says: 'The front door failed.',
  },
} as const satisfies Record<string, FailureKind>

export type FailureCode = keyof typeof failureKinds

/** How a request ended, as recorded and counted. */
export type Outcome = 'passed' | FailureCode

export type Stage = 'wait' | 'connect' | 'request_body' | 'answer_head' | 'answer_body'

/** The client closed its connection in this stage. */
export const abortIn = {
  wait: 'wait_aborted',
  connect: 'connect_aborted',
  request_body: 'body_aborted',
  answer_head: 'head_aborted',
  answer_body: 'answer_aborted',
} as const satisfies Record<Stage, FailureCode>

const upstreamErrors: Readonly<Record<Stage, (errorCode: string) => FailureCode>> = {
  wait: () => 'internal',
  connect: (errorCode) => {
    if (errorCode === 'ENOTFOUND' || errorCode.startsWith('EAI_')) return 'name_not_found'
    return errorCode === 'ECONNREFUSED' ? 'refused' : 'connect_failed'
  },
  request_body: (errorCode) => (errorCode.startsWith('HPE_') ? 'malformed_answer' : 'body_reset'),
  answer_head: (errorCode) => (errorCode.startsWith('HPE_') ? 'malformed_answer' : 'head_reset'),
  answer_body: () => 'answer_cut',
}

/** The failure that an error of the upstream's connection means in this stage. */
export function upstreamFailure(stage: Stage, errorCode: string): FailureCode {
  return upstreamErrors[stage](errorCode)
}
