import type { GateResult } from '../../flags/gates.ts'

/** `PASS parity: 0 orders differ, of 4812 messages compared (need 0 of >= 2000)`; of what does not pass also why, and what to do. */
export function gateLines(result: GateResult): string[] {
  const { gate, verdict, measured, needed, says, source, unblock } = result
  const line = `${verdict} ${gate}: ${measured} (need ${needed})`
  if (verdict === 'PASS') return [line]
  return [line, `  ${says}`, `  from: ${source}${unblock === undefined ? '' : `; ${unblock}`}`]
}
