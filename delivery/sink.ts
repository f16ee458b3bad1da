import type { ClaimedOrder } from './ledger-claims.ts'

/** One connection into the sink. It is lost once and for all; then a new one with a new name is opened. */
export interface SinkConnection {
  /** Recorded with every claim, so that others can certify the end of this connection. */
  readonly name: string
  readonly alive: boolean
  /** Resolved = the sink has it durably. Rejected = a StranglerError whose `resendSafe` says whether it may have it. */
  send(order: ClaimedOrder): Promise<void>
  close(): Promise<void>
}

/** Where orders are delivered. The courier knows no broker: whoever constructs it brings the sink. */
export interface Sink {
  /** @throws StranglerError `broker_unreachable` */
  connect(name: string): Promise<SinkConnection>
}

/** What can be found out about an order that may or may not have been taken. */
export interface Evidence {
  /** The orders the receiver is known to hold, with what shows it. */
  held(orderIds: readonly string[]): Promise<Map<string, string>>
  /** True when nothing sent through that connection can still arrive. */
  connectionGone(name: string): Promise<boolean>
  /** May the order still be on its way to the receiver? `since` is performance.now() of the moment its sender was gone. */
  mayBeUnderway(orderId: string, since: number): Promise<'no' | 'maybe'>
}
