import type { OrderStatus } from '../order-status.ts'

export type MesOrder = {
  readonly id: number
  readonly order_id: string
  readonly source: string
  readonly external_id: string | null
  readonly partner: string | null
  readonly client_id: number | null
  readonly customer_tier: string | null
  readonly status: OrderStatus
  readonly model_key: string
  readonly model_sha256: string
  readonly model_bytes: number
  readonly model_read_sha256: string | null
  readonly material: string
  readonly quantity: number
  readonly comment: string | null
  readonly price: string | null
  readonly currency: string | null
  readonly operator: string | null
  readonly redelivered: boolean
  readonly received_at: Date
  readonly updated_at: Date
}
