/** Where in an order's way an error happened. */
export type Stage =
  | 'start'
  | 'edge'
  | 'connect'
  | 'decide'
  | 'accept'
  | 'ring'
  | 'claim'
  | 'send'
  | 'confirm'
  | 'settle'
  | 'lookup'
  | 'topology'

/** On whose side of that stage it happened. */
export type Side =
  | 'client'
  | 'ours'
  | 'broker'
  | 'mes'
  | 'shop'
  | 'ledger'
  | 'intake'
  | 'doorbell'
  | 'flags'

interface ErrorKind {
  readonly stage: Stage
  readonly side: Side
  /** True only when the receiver can't have the message: then, and only then, it may be sent again without evidence. */
  readonly resendSafe: boolean
  readonly says: string
}

/** The closed list: every error of ours has one of these codes, and a code never changes its meaning. */
export const errorKinds = {
  invalid_configuration: {
    stage: 'start',
    side: 'ours',
    resendSafe: true,
    says: 'the configuration is invalid',
  },
  invalid_argument: {
    stage: 'edge',
    side: 'client',
    resendSafe: true,
    says: 'an argument is invalid',
  },
  not_found: { stage: 'edge', side: 'client', resendSafe: true, says: 'there is no such thing' },
  refused: { stage: 'edge', side: 'ours', resendSafe: true, says: 'the command refuses to go on' },
  epoch_conflict: {
    stage: 'decide',
    side: 'ours',
    resendSafe: true,
    says: 'somebody else moved the phase meanwhile',
  },
  migration_missing: {
    stage: 'start',
    side: 'ours',
    resendSafe: true,
    says: 'a database lacks our migrations',
  },
  ledger_unavailable: {
    stage: 'accept',
    side: 'ledger',
    resendSafe: true,
    says: 'the ledger database does not answer',
  },
  shop_unavailable: {
    stage: 'accept',
    side: 'shop',
    resendSafe: true,
    says: 'the Shop database does not answer',
  },
  mes_unavailable: {
    stage: 'lookup',
    side: 'mes',
    resendSafe: true,
    says: 'the MES database does not answer',
  },
  intake_unavailable: {
    stage: 'accept',
    side: 'intake',
    resendSafe: true,
    says: 'the database of the partner intake does not answer',
  },
  doorbell_unavailable: {
    stage: 'ring',
    side: 'doorbell',
    resendSafe: true,
    says: 'the doorbell queue does not answer',
  },
  flag_server_unavailable: {
    stage: 'lookup',
    side: 'flags',
    resendSafe: true,
    says: 'Unleash does not answer',
  },
  flag_server_refused: {
    stage: 'lookup',
    side: 'flags',
    resendSafe: true,
    says: 'Unleash refuses the request',
  },
  broker_unreachable: {
    stage: 'connect',
    side: 'broker',
    resendSafe: true,
    says: 'the legacy broker can not be reached',
  },
  message_unroutable: {
    stage: 'send',
    side: 'broker',
    resendSafe: true,
    says: 'the broker returned the message: no queue is bound',
  },
  // RabbitMQ says so when a queue's process fails, and a recovered queue may have the message after all.
  message_nacked: {
    stage: 'confirm',
    side: 'broker',
    resendSafe: false,
    says: 'the broker did not take the message, as far as it knows',
  },
  message_refused: {
    stage: 'send',
    side: 'broker',
    resendSafe: true,
    says: 'the message can never be sent as it is',
  },
  confirm_unknown: {
    stage: 'confirm',
    side: 'broker',
    resendSafe: false,
    says: 'the connection was lost before the broker confirmed: it may have the message',
  },
  topology_mismatch: {
    stage: 'topology',
    side: 'broker',
    resendSafe: true,
    says: 'the broker is not bound as expected',
  },
  malformed_message: {
    stage: 'decide',
    side: 'client',
    resendSafe: true,
    says: 'the message can not be read',
  },
} as const satisfies Record<string, ErrorKind>

export type ErrorCode = keyof typeof errorKinds

/** An error whose stage and side are known. `detail` carries the data; the message is made from it. */
export class StranglerError extends Error {
  override readonly name = 'StranglerError'
  readonly code: ErrorCode
  readonly stage: Stage
  readonly side: Side
  readonly resendSafe: boolean
  readonly detail: string

  constructor(code: ErrorCode, detail = '', cause?: unknown) {
    const kind = errorKinds[code]
    super(
      `${code}: ${kind.says}${detail === '' ? '' : ` (${detail})`}`,
      cause === undefined ? undefined : { cause },
    )
    this.code = code
    this.stage = kind.stage
    this.side = kind.side
    this.resendSafe = kind.resendSafe
    this.detail = detail
  }
}

/** Wraps whatever was thrown, keeping it as the cause; one of ours passes unchanged. */
export function asStranglerError(thrown: unknown, code: ErrorCode): StranglerError {
  if (thrown instanceof StranglerError) return thrown
  return new StranglerError(code, thrown instanceof Error ? thrown.message : String(thrown), thrown)
}
