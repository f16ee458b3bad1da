import type { Pool } from 'pg'

import { Fields } from '../fields.ts'
import { Refusal } from '../refusal.ts'

const columns =
  'id, email, full_name, phone, address, consents, loyalty_points, created_at, updated_at'

type Client = Readonly<Record<string, unknown>>

export async function findClient(pool: Pool, id: string): Promise<Client> {
  const { rows } = await pool.query<Client>(`SELECT ${columns} FROM clients WHERE id = $1`, [
    clientId(id),
  ])
  const [client] = rows
  if (!client) throw notFound()
  return client
}

/** A field that is not given keeps its value. */
export async function updateClient(pool: Pool, id: string, body: unknown): Promise<Client> {
  const fields = new Fields(body)
  const changes: [column: string, value: unknown][] = []
  if (fields.has('full_name')) changes.push(['full_name', fields.text('full_name', 200)])
  if (fields.has('phone')) changes.push(['phone', fields.optionalText('phone', 50)])
  if (fields.has('address')) changes.push(['address', fields.optionalObject('address')])
  if (fields.has('consents')) changes.push(['consents', fields.texts('consents')])
  const assignments = changes.map(([column], position) => `${column} = $${position + 2}`)
  const { rows } = await pool.query<Client>(
    `UPDATE clients SET ${[...assignments, 'updated_at = now()'].join(', ')} WHERE id = $1 RETURNING ${columns}`,
    [clientId(id), ...changes.map(([, value]) => value)],
  )
  const [client] = rows
  if (!client) throw notFound()
  return client
}

function clientId(text: string): number {
  if (!/^[1-9]\d{0,14}$/u.test(text)) throw notFound()
  return Number(text)
}

function notFound(): Refusal {
  return new Refusal(404, 'client_not_found', 'there is no such client')
}
