import { bridgeStatus } from '../../adapters/bridge/bridge-status.ts'
import type { BridgeStatus } from '../../adapters/bridge/bridge-status.ts'
import type { Broker } from '../../adapters/broker/port.ts'
import { legacyLinks } from '../../adapters/wire/legacy-topology.ts'
import type { Finding } from '../../runtime/finding.ts'
import { withoutSecrets } from '../../runtime/log.ts'
import type { Pool } from '../../runtime/postgres.ts'

/** How the legacy queues are bound, and whether somebody carries on what comes to the bridges. */
export async function inspectBridges(broker: Broker, ledger: Pool): Promise<Finding[]> {
  const findings: Finding[] = []
  for (const { queue } of legacyLinks) {
    try {
      findings.push(...judgeBridge(await bridgeStatus({ broker, ledger, queue })))
    } catch (error) {
      const says = withoutSecrets(error instanceof Error ? error.message : String(error))
      findings.push({
        level: 'unread',
        subject: `bindings of ${queue}`,
        says,
        fix: 'look at BROKER_URL',
      })
    }
  }
  return findings
}

export function judgeBridge(status: BridgeStatus): Finding[] {
  const { queue, state, drift, messages, unread } = status
  const subject = `bindings of ${queue}`
  const findings: Finding[] = []
  if (unread !== undefined) {
    findings.push({
      level: 'unread',
      subject,
      says: unread,
      fix: 'is the broker up, and are BROKER_URL and AMQP_MANAGEMENT_URL right?',
    })
  } else if (drift === 'unknown') {
    findings.push({
      level: 'unread',
      subject,
      says: 'the broker does not tell',
      fix: 'set AMQP_MANAGEMENT_URL',
    })
  } else if (state === 'inserting' || state === 'removing') {
    const verb = state === 'removing' ? 'remove' : 'insert'
    findings.push({
      level: 'warn',
      subject,
      says: `the bridge is ${state}`,
      fix: `strangler bridge ${verb} --queue ${queue} ends it`,
    })
  } else if (drift.length === 0) {
    findings.push({
      level: 'ok',
      subject,
      says: state === 'inserted' ? 'through the bridge' : 'no bridge',
    })
  } else {
    const verb = state === 'inserted' ? 'insert' : 'remove'
    findings.push({
      level: 'unsafe',
      subject,
      says: drift.join('; '),
      fix: `strangler bridge ${verb} --queue ${queue} binds it as it should be`,
    })
  }
  if (state === 'inserted' && status.consumer === false) {
    findings.push({
      level: 'unsafe',
      subject: `bridge ${queue}`,
      says: 'no bridge process is attached: orders wait',
      fix: 'start one',
    })
  }
  if (messages.parked > 0) {
    findings.push({
      level: 'warn',
      subject: `bridge ${queue}`,
      says: `${messages.parked} messages are parked`,
      fix: 'a person must look at them: table bridge_inbox, state parked',
    })
  }
  return findings
}
