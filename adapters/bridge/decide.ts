import type { Path } from '../../contracts/order.ts'
import type { InboxRow } from './bridge-inbox.ts'
import { createdKey, isMarker, isStatus, submittedKey } from './incoming.ts'
import type { Incoming } from './incoming.ts'

export type Decision =
  | { readonly act: 'forward'; readonly reason: string | undefined }
  | { readonly act: 'suppress'; readonly reason: string }
  /** Into the status inbox, and not to CRM. */
  | { readonly act: 'divert' }
  | { readonly act: 'hold'; readonly reason: string }
  /** An earlier delivery of it has been dealt with. */
  | { readonly act: 'acknowledge' }

/** What is known of a message's order when it is decided. */
export interface Known {
  readonly row: InboxRow
  /** The stored path of what this message is about: the order's or, of a status, that of its statuses. */
  readonly path: Path | undefined
  /** An earlier message of the same kind, another one, went on or is held. */
  readonly sentBefore: boolean
  readonly inLedger: boolean
  /** A status of the order that came before is held. */
  readonly behind: boolean
}

/** The rules of the seam, in order; the first that applies decides. Approvals and closings meet none that stops them. */
export function decide(incoming: Incoming, known: Known): Decision {
  const { row } = known
  const { routingKey } = incoming.delivery
  const repeated = !row.fresh
  if (row.state !== 'received') return { act: 'acknowledge' }
  if (isMarker(incoming)) return { act: 'suppress', reason: 'marker' }
  if (incoming.message === undefined) return { act: 'forward', reason: 'unreadable' }
  switch (routingKey) {
    case submittedKey:
      if (known.path === 'direct') return { act: 'suppress', reason: 'duplicate_suppressed' }
      if (known.sentBefore) return { act: 'suppress', reason: 'submitted_twice' }
      if (repeated) return { act: 'hold', reason: 'ended between receiving and settling' }
      if (row.ambiguous) return { act: 'hold', reason: 'received while the broker was re-bound' }
      return { act: 'forward', reason: undefined }
    case createdKey:
      if (known.sentBefore) return { act: 'suppress', reason: 'created_twice' }
      return { act: 'forward', reason: undefined }
    default:
      if (isStatus(incoming) && known.path === 'direct') return { act: 'divert' }
      if (isStatus(incoming) && known.behind)
        return { act: 'hold', reason: 'behind an earlier status' }
      return { act: 'forward', reason: known.inLedger ? undefined : 'unknown_order' }
  }
}
