import { createHash, randomBytes, randomInt } from 'node:crypto'

import { StranglerError } from '../../contracts/errors.ts'
import type { Client, Pool } from '../../runtime/postgres.ts'
import {
  type Act,
  changeAndTell,
  nextRouteVersion,
  type PartnerDatabases,
} from './change-partner.ts'
import { findPartner, noPartner } from './partners.ts'

/** What may be told of a key. */
export interface ApiKey {
  readonly id: string
  readonly imported: boolean
  readonly createdAt: Date
  readonly lastUsedAt: Date | null
  readonly revokedAt: Date | null
}

const mostLiveKeys = 2

/** @throws StranglerError `not_found` */
export async function listKeys(intake: Pool, partner: string): Promise<ApiKey[]> {
  await findPartner(intake, partner)
  const { rows } = await intake.query<ApiKey>(
    `SELECT id, imported, created_at AS "createdAt", last_used_at AS "lastUsedAt", revoked_at AS "revokedAt"
     FROM api_key WHERE partner = $1 ORDER BY created_at, id`,
    [partner],
  )
  return rows
}

/**
 * A new key beside the one in use, so that the partner can change over. It is given back here, once, and kept nowhere.
 * @throws StranglerError `not_found`, or `refused` when there are two already
 */
export async function rotateKey(
  databases: PartnerDatabases,
  act: Act,
  partner: string,
): Promise<{ readonly id: string; readonly key: string }> {
  const id = newKeyId()
  const key = `sk_live_${id}_${base62(randomBytes(32))}`
  await changeAndTell(databases, act, async (client) => {
    await lockPartner(client, partner)
    const { rows } = await client.query<{ id: string }>(
      'SELECT id FROM api_key WHERE partner = $1 AND revoked_at IS NULL ORDER BY created_at, id',
      [partner],
    )
    if (rows.length >= mostLiveKeys)
      throw new StranglerError(
        'refused',
        `${partner} has ${rows.length} live keys (${rows.map((each) => each.id).join(', ')}), and ${mostLiveKeys} are the most: ` +
          `when the partner has left one of them, "strangler partner revoke ${rows[0]!.id}", and again`,
      )
    await insertKey(client, { id, partner, hash: hashOf(key), imported: false })
    await markChanged(client, [partner])
    return { result: undefined, says: `${partner}: new key ${id}`, detail: { partner, key: id } }
  })
  return { id, key }
}

/** @throws StranglerError `not_found`, or `refused` when it is revoked already */
export async function revokeKey(
  databases: PartnerDatabases,
  act: Act,
  keyId: string,
): Promise<{ readonly partner: string; readonly imported: boolean; readonly liveKeys: number }> {
  return await changeAndTell(databases, act, async (client) => {
    const { rows } = await client.query<{ partner: string; imported: boolean }>(
      'UPDATE api_key SET revoked_at = clock_timestamp() WHERE id = $1 AND revoked_at IS NULL RETURNING partner, imported',
      [keyId],
    )
    const revoked = rows[0]
    if (revoked === undefined)
      throw new StranglerError(
        'not_found',
        'there is no live key of this id; "strangler partner keys <id>" names them',
      )
    const left = await client.query(
      'SELECT FROM api_key WHERE partner = $1 AND revoked_at IS NULL',
      [revoked.partner],
    )
    return {
      result: { ...revoked, liveKeys: left.rowCount ?? 0 },
      says: `${revoked.partner}: key ${keyId} revoked`,
      detail: { partner: revoked.partner, key: keyId },
    }
  })
}

export interface KeysImported {
  readonly imported: number
  /** Were there before. */
  readonly known: number
  readonly partnersAdded: readonly string[]
}

/**
 * The keys that the MES has, so that no partner changes one; again is nothing. Partners that are missing are added. A key that is
 * new, of a partner that has left the MES, is refused: the MES may have taken orders by it that nobody has imported.
 * @param document JSON as MES_PARTNERS: partners by key
 * @throws StranglerError `invalid_argument`, `refused`; neither says a key
 */
export async function importKeys(
  databases: PartnerDatabases,
  act: Act,
  document: string,
): Promise<KeysImported> {
  const given = partnersByKey(document)
  return await changeAndTell(databases, act, async (client) => {
    const partnersAdded: string[] = []
    const changed = new Set<string>()
    for (const partner of new Set(given.map(([, name]) => name))) {
      const { rowCount } = await client.query(
        'INSERT INTO partner (id) VALUES ($1) ON CONFLICT DO NOTHING',
        [partner],
      )
      if (rowCount === 1) partnersAdded.push(partner)
    }
    let imported = 0
    for (const [key, partner] of given) {
      const hash = hashOf(key)
      const route = await lockPartner(client, partner)
      const { rows } = await client.query<{ partner: string }>(
        'SELECT partner FROM api_key WHERE secret_sha256 = $1',
        [hash],
      )
      const owner = rows[0]?.partner
      if (owner === partner) continue
      if (owner !== undefined)
        throw new StranglerError('refused', `a key given for ${partner} belongs to ${owner}`)
      if (route !== 'mes')
        throw new StranglerError(
          'refused',
          `a key of ${partner} is not known here, and the MES may have taken orders by it: "strangler partner release ${partner}" first, then import, then enter again`,
        )
      await insertKey(client, { id: newKeyId(), partner, hash, imported: true })
      changed.add(partner)
      imported += 1
    }
    await markChanged(client, [...changed])
    const nothing = imported === 0 && partnersAdded.length === 0
    return {
      result: { imported, known: given.length - imported, partnersAdded },
      says: nothing ? undefined : `${imported} keys imported from the MES`,
      detail: { partners: [...changed], partnersAdded },
    }
  })
}

function partnersByKey(document: string): [key: string, partner: string][] {
  let parsed: unknown
  try {
    parsed = JSON.parse(document)
  } catch {
    // What the parser says quotes the text, and that is keys.
    return noPartnersByKey()
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
    return noPartnersByKey()
  const entries: [string, unknown][] = Object.entries(parsed)
  return entries.map(([key, partner]) =>
    typeof partner === 'string' && key !== '' && partner !== ''
      ? [key, partner]
      : noPartnersByKey(),
  )
}

function noPartnersByKey(): never {
  throw new StranglerError(
    'invalid_argument',
    'expected JSON as MES_PARTNERS has it, {"<key>": "<partner>"}, got something else',
  )
}

/** @throws StranglerError `not_found` */
async function lockPartner(client: Client, partner: string): Promise<string> {
  const { rows } = await client.query<{ route: string }>(
    'SELECT route FROM partner WHERE id = $1 FOR UPDATE',
    [partner],
  )
  return rows[0]?.route ?? noPartner(partner)
}

async function insertKey(
  client: Client,
  key: { id: string; partner: string; hash: Buffer; imported: boolean },
): Promise<void> {
  await client.query(
    'INSERT INTO api_key (id, partner, secret_sha256, imported) VALUES ($1, $2, $3, $4)',
    [key.id, key.partner, key.hash, key.imported],
  )
}

/** So that the proxies learn of new keys. */
async function markChanged(client: Client, partners: readonly string[]): Promise<void> {
  if (partners.length === 0) return
  const version = await nextRouteVersion(client)
  await client.query('UPDATE partner SET route_version = $2 WHERE id = ANY($1)', [
    partners,
    version,
  ])
}

function hashOf(key: string): Buffer {
  return createHash('sha256').update(key).digest()
}

const digits = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'

function newKeyId(): string {
  return Array.from({ length: 8 }, () => digits[randomInt(62)]).join('')
}

/** 32 bytes are 43 digits. */
function base62(bytes: Buffer): string {
  let left = BigInt(`0x${bytes.toString('hex')}`)
  let text = ''
  for (; left > 0n; left /= 62n) text = digits[Number(left % 62n)]! + text
  return text.padStart(43, '0')
}
