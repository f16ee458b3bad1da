import type { ApiKey, KeysImported, revokeKey } from '../../adapters/partners/api-keys.ts'
import type { Entered } from '../../adapters/partners/enter-partner.ts'
import type { PartnerRow } from '../../adapters/partners/partners.ts'
import type { Released } from '../../adapters/partners/release-partner.ts'
import { columns } from './columns.ts'
import type { Outcome } from './command.ts'
import { formatDuration } from './duration.ts'

/** What `strangler partner` says. */

export function partnersTable(partners: readonly PartnerRow[]): string {
  if (partners.length === 0)
    return 'none yet: strangler partner import-keys <file> brings those of the MES'
  return columns([
    ['partner', 'route', 'mode', 'live keys', 'requests a minute', 'uploads at once'],
    ...partners.map((each) => [
      each.id,
      each.route,
      each.mode,
      String(each.liveKeys),
      String(each.requestsPerMinute),
      String(each.uploadsAtOnce),
    ]),
  ])
}

export function keysTable(keys: readonly ApiKey[]): string {
  if (keys.length === 0) return 'it has none'
  return columns([
    ['key', 'created', 'last used', '', 'revoked'],
    ...keys.map(({ id, imported, createdAt, lastUsedAt, revokedAt }) => [
      id,
      createdAt.toISOString(),
      lastUsedAt?.toISOString() ?? 'never',
      imported ? 'imported' : '',
      revokedAt?.toISOString() ?? '',
    ]),
  ])
}

export function revokedOutcome(
  keyId: string,
  revoked: Awaited<ReturnType<typeof revokeKey>>,
): Outcome {
  const { partner, imported, liveKeys } = revoked
  return {
    exitCode: 0,
    json: { key: keyId, ...revoked },
    text: [
      `${keyId} of ${partner} is revoked: the intake refuses it from now on; ${liveKeys} live keys left`,
      ...(imported
        ? ['while a partner is at the MES, the MES takes it until it is removed there']
        : []),
    ].join('\n'),
  }
}

export function importedOutcome(keys: KeysImported): Outcome {
  const added = keys.partnersAdded.length === 0 ? '' : `; added: ${keys.partnersAdded.join(', ')}`
  return {
    exitCode: 0,
    json: keys,
    text: `${keys.imported} keys imported, ${keys.known} were there${added}`,
  }
}

export function enteredOutcome(partner: string, entered: Entered): Outcome {
  const { changed, imported, orders, proxies, waitedMs, readsBehind, shadow } = entered
  const lines = changed
    ? [
        `${partner} is behind the intake: all its calls go there, and the intake decides per order`,
        `${imported} orders imported, ${orders} in all as at the MES; ${proxies} proxies acknowledged and let go within ${formatDuration(waitedMs)}`,
      ]
    : [
        `${partner} is behind the intake already; nothing changed, and ${imported} more orders of the MES are imported`,
      ]
  if (shadow !== undefined)
    lines.push(
      shadow.compared === 0
        ? 'the shadow had compared none of its orders in the last 7 days'
        : `the shadow had compared ${shadow.compared} of its orders in the last 7 days, ${shadow.differing} with an accepted difference`,
    )
  if (readsBehind !== undefined) lines.push(`its reads may still go to the MES: ${readsBehind}`)
  return { exitCode: 0, json: { partner, route: 'intake', ...entered }, text: lines.join('\n') }
}

export function releasedOutcome(partner: string, released: Released): Outcome {
  const { changed, undelivered, waitedMs, heldBy } = released
  const json = { partner, route: 'mes', ...released }
  if (!changed)
    return { exitCode: 0, json, text: `${partner} is at the MES already; nothing changed` }
  const lines = [
    `${partner} is at the MES again: all its calls go there`,
    'THE MES DOES NOT DEDUPLICATE: a late retry of an order from before becomes a second order there',
  ]
  if (undelivered > 0)
    lines.push(
      `${undelivered} orders of the intake are not with the MES yet; their delivery goes on`,
    )
  lines.push(
    heldBy === undefined
      ? `every proxy acknowledged within ${formatDuration(waitedMs)}`
      : `not every proxy knows yet: ${heldBy} may send its calls to the intake, which sends orders away; nothing is done twice`,
  )
  return { exitCode: heldBy === undefined ? 0 : 3, json, text: lines.join('\n') }
}
