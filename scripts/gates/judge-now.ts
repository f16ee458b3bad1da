import { gateEvidence } from '../../adapters/gates/gate-evidence.ts'
import type { GateEvidence } from '../../adapters/gates/gate-evidence.ts'
import { gateSettings, gateShape } from '../../adapters/gates/gate-settings.ts'
import type { GateResult } from '../../flags/gates.ts'
import { judgeOwnGates } from '../../flags/own-gates.ts'
import { readPhase } from '../../flags/phase-state.ts'
import { findPhase, nextStep } from '../../flags/phases.ts'
import type { PhaseId } from '../../flags/phases.ts'
import type { Log } from '../../runtime/log.ts'
import type { Connections } from '../command-line/connections.ts'

export function openEvidence(connections: Connections, log: Log): GateEvidence {
  const urls = {
    ledger: connections.urlOf('LEDGER_URL'),
    shop: connections.isSet('SHOP_URL') ? connections.urlOf('SHOP_URL') : undefined,
    mes: connections.isSet('MES_URL') ? connections.urlOf('MES_URL') : undefined,
    intake: connections.isSet('INTAKE_URL') ? connections.urlOf('INTAKE_URL') : undefined,
  }
  return gateEvidence(urls, gateSettings(connections.read(gateShape)), log)
}

/** Every gate, once, now; nothing is stored, and nothing half done is ended. */
export async function judgeNow(
  connections: Connections,
  phase: PhaseId,
  log: Log,
): Promise<GateResult[]> {
  const ledger = connections.ledger()
  const evidence = openEvidence(connections, log)
  try {
    const state = await readPhase(ledger, phase)
    const own = await judgeOwnGates(ledger, {
      phase,
      settled: { state, wait: { complete: true, waitedMs: 0 } },
      target: nextStep(findPhase(phase), state.share) ?? state.share,
      approvalsNeeded: connections.approvalsNeeded(),
    })
    return [...(await evidence.judge(phase)), ...own]
  } finally {
    await evidence.close()
  }
}
