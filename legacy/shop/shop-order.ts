import type { OrderStatus } from '../order-status.ts'

export type ShopOrder = {
  readonly id: string
  readonly client_id: number | null
  readonly source: 'shop' | 'partner'
  readonly external_id: string | null
  readonly status: OrderStatus
  readonly model_key: string | null
  readonly model_sha256: string | null
  readonly model_bytes: number | null
  readonly material: string
  readonly quantity: number
  readonly comment: string | null
  readonly price: string | null
  readonly currency: string | null
  readonly crm_sent_at: Date | null
  readonly created_at: Date
  readonly updated_at: Date
}
