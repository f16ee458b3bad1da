import { DatabaseError, type Pool } from 'pg'

import { Fields } from '../fields.ts'
import { Refusal } from '../refusal.ts'
import { hashPassword } from './password.ts'

export async function createClient(pool: Pool, body: unknown): Promise<number> {
  const fields = new Fields(body)
  const email = fields.text('email', 320)
  if (!/^[^\s@]+@[^\s@]+$/u.test(email)) {
    throw new Refusal(422, 'invalid_field', 'email must be an address', { field: 'email' })
  }
  const fullName = fields.text('full_name', 200)
  const phone = fields.optionalText('phone', 50)
  const address = fields.optionalObject('address')
  const password = fields.text('password', 200)
  const consents = fields.texts('consents')
  try {
    const { rows } = await pool.query<{ id: number }>(
      `INSERT INTO clients (email, full_name, phone, address, password_hash, consents)
       VALUES ($1, $2, $3, $4, $5, $6) RETURNING id`,
      [email, fullName, phone, address, await hashPassword(password), consents],
    )
    const [row] = rows
    if (!row) throw new Error('the client was not stored')
    return row.id
  } catch (error) {
    if (error instanceof DatabaseError && error.constraint === 'clients_email_key') {
      throw new Refusal(409, 'email_taken', 'a client with this email exists')
    }
    throw error
  }
}
