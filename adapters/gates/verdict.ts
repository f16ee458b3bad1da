import { StranglerError } from '../../contracts/errors.ts'
import type { GateId, GateResult } from '../../flags/gates.ts'
import { withoutSecrets } from '../../runtime/log.ts'

/** What stays the same of a gate whatever its verdict. */
export interface Gate {
  readonly gate: GateId
  readonly needed: string
  readonly source: string
}

export function pass(gate: Gate, measured: string, says: string): GateResult {
  return { ...gate, verdict: 'PASS', measured, says, orderIds: [], unblock: undefined }
}

export function fail(
  gate: Gate,
  measured: string,
  says: string,
  more: {
    readonly unblock: string
    readonly orderIds?: readonly string[]
    readonly legacyOnly?: boolean
  },
): GateResult {
  const { unblock, orderIds = [], legacyOnly = false } = more
  const named = [...new Set(orderIds)]
  return { ...gate, verdict: 'FAIL', measured, says, orderIds: named, unblock, legacyOnly }
}

export function inconclusive(
  gate: Gate,
  measured: string,
  says: string,
  unblock?: string,
): GateResult {
  return { ...gate, verdict: 'INCONCLUSIVE', measured, says, orderIds: [], unblock }
}

/** Of the gates that ask pages, where none is configured. */
export function noPage(gate: Gate, minimum: number): GateResult {
  if (minimum === 0) return pass(gate, 'nothing', 'no page is configured, and none is asked for')
  const unblock = 'set SHOP_DOOR and SHOP_UPSTREAM, and the same of CRM and MES'
  return inconclusive(gate, 'nothing', 'no page is configured', unblock)
}

/** The names of values that are no counts or times: NaN, negative, missing. Such a value never passes. */
export function unsound(values: Readonly<Record<string, number | null | undefined>>): string[] {
  return Object.entries(values).flatMap(([name, value]) =>
    typeof value === 'number' && Number.isFinite(value) && value >= 0
      ? []
      : [`${name} is ${String(value)}`],
  )
}

export function notSound(gate: Gate, wrong: readonly string[]): GateResult {
  return inconclusive(gate, 'nothing', `the evidence is broken: ${wrong.join(', ')}`)
}

const sources = {
  ledger_unavailable: { name: 'the ledger', setting: 'LEDGER_URL' },
  shop_unavailable: { name: 'the Shop DB', setting: 'SHOP_URL' },
  intake_unavailable: { name: 'the intake DB', setting: 'INTAKE_URL' },
  mes_unavailable: { name: 'the MES DB', setting: 'MES_URL' },
} as const

/** A source that did not answer. What is not known to be of another source was asked of the ledger. */
export function unread(gate: Gate, error: unknown): GateResult {
  const code = error instanceof StranglerError ? error.code : 'ledger_unavailable'
  const known = Object.entries(sources).find(([each]) => each === code)?.[1]
  const why = withoutSecrets(
    error instanceof StranglerError
      ? error.detail || error.message
      : error instanceof Error
        ? error.message || error.name
        : String(error),
  )
  if (known === undefined) return inconclusive(gate, 'nothing', why)
  return inconclusive(
    gate,
    'nothing',
    `${known.name} does not answer: ${why || 'no reason given'}`,
    `look at the server of ${known.setting}`,
  )
}

export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(0)} s`
}

/** `a, b and 3 more`. */
export function some(names: readonly string[], atMost: number): string {
  const more = names.length - atMost
  return `${names.slice(0, atMost).join(', ')}${more > 0 ? ` and ${more} more` : ''}`
}
