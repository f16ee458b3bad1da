import { StranglerError } from '../../contracts/errors.ts'
import type { Pool } from '../../runtime/postgres.ts'
import {
  type Act,
  changeAndTell,
  type PartnerDatabases,
  type PartnerSide,
} from './change-partner.ts'

export interface PartnerSettings {
  readonly mode?: 'compat' | 'strict' | undefined
  readonly requestsPerMinute?: number | undefined
  readonly uploadsAtOnce?: number | undefined
}

export interface PartnerRow {
  readonly id: string
  readonly mode: 'compat' | 'strict'
  readonly route: PartnerSide
  readonly requestsPerMinute: number
  readonly uploadsAtOnce: number
  readonly liveKeys: number
}

const select = `
  SELECT p.id, p.mode, p.route, p.requests_per_minute AS "requestsPerMinute", p.uploads_at_once AS "uploadsAtOnce",
    (SELECT count(*)::int FROM api_key k WHERE k.partner = p.id AND k.revoked_at IS NULL) AS "liveKeys"
  FROM partner p`

export async function listPartners(intake: Pool): Promise<PartnerRow[]> {
  const { rows } = await intake.query<PartnerRow>(`${select} ORDER BY p.id`)
  return rows
}

/** @throws StranglerError `not_found` */
export async function findPartner(intake: Pool, id: string): Promise<PartnerRow> {
  const { rows } = await intake.query<PartnerRow>(`${select} WHERE p.id = $1`, [id])
  return rows[0] ?? noPartner(id)
}

export function noPartner(id: string): never {
  throw new StranglerError(
    'not_found',
    `there is no partner ${id}; "strangler partner list" names them`,
  )
}

/** @throws StranglerError `refused` when there is one of this name */
export async function addPartner(
  databases: PartnerDatabases,
  act: Act,
  id: string,
  settings: PartnerSettings,
): Promise<void> {
  if (id.trim() !== id || id.length > 100 || !/^\P{Cc}+$/u.test(id))
    throw new StranglerError(
      'invalid_argument',
      "a partner's id expected to be 1 to 100 characters, as the MES calls it",
    )
  await changeAndTell(databases, act, async (client) => {
    const { rowCount } = await client.query(
      'INSERT INTO partner (id) VALUES ($1) ON CONFLICT DO NOTHING',
      [id],
    )
    if (rowCount !== 1) throw new StranglerError('refused', `there is a partner ${id} already`)
    await client.query(update, valuesOf(id, settings))
    return { result: undefined, says: `${id}: added`, detail: { partner: id, ...settings } }
  })
}

/** @throws StranglerError `not_found` */
export async function setPartner(
  databases: PartnerDatabases,
  act: Act,
  id: string,
  settings: PartnerSettings,
): Promise<void> {
  await changeAndTell(databases, act, async (client) => {
    const { rowCount } = await client.query(update, valuesOf(id, settings))
    if (rowCount !== 1) noPartner(id)
    return { result: undefined, says: `${id}: settings`, detail: { partner: id, ...settings } }
  })
}

const update = `
  UPDATE partner SET mode = coalesce($2, mode), requests_per_minute = coalesce($3, requests_per_minute),
    uploads_at_once = coalesce($4, uploads_at_once)
  WHERE id = $1`

function valuesOf(id: string, { mode, requestsPerMinute, uploadsAtOnce }: PartnerSettings) {
  return [id, mode ?? null, requestsPerMinute ?? null, uploadsAtOnce ?? null]
}
