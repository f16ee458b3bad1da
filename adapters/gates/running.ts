import type { GateResult } from '../../flags/gates.ts'
import type { PhaseId } from '../../flags/phases.ts'
import type { GateSources } from './gate-sources.ts'
import { missingForOrders, runningInLedger, runningInShop } from './orders-running.ts'
import type { Missing } from './orders-running.ts'
import { missingForPartners, partnersRunningInIntake } from './partners-running.ts'
import {
  missingForStatuses,
  statusesRunningInLedger,
  statusesRunningInShop,
} from './statuses-running.ts'
import { fail, pass } from './verdict.ts'

export async function readMissing(
  { ledger, shop, intake }: GateSources,
  phase: PhaseId,
): Promise<Missing> {
  switch (phase) {
    case 'orders-direct':
      return missingForOrders({
        ...(await shop(runningInShop)),
        ...(await runningInLedger(ledger)),
      })
    case 'statuses-direct':
      return missingForStatuses({
        ...(await shop(statusesRunningInShop)),
        ...(await statusesRunningInLedger(ledger)),
      })
    case 'partner-intake':
      return missingForPartners({
        ...(await intake(partnersRunningInIntake)),
        ...(await runningInLedger(ledger)),
        ...(await statusesRunningInLedger(ledger)),
      })
    default:
      return phase satisfies never
  }
}

export function judgeRunning({ parts, processes }: Missing): GateResult {
  const gate = {
    gate: 'running',
    needed: 'every part of the new way',
    source: 'strangler doctor',
  } as const
  const missing = [...parts, ...processes]
  return missing.length === 0
    ? pass(gate, 'nothing is missing', 'every part of the new way is there')
    : fail(gate, `${missing.length} parts are missing`, missing.join(', '), {
        unblock: '"strangler doctor" says what to do about each',
      })
}
