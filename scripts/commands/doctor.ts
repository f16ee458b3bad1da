import { readRunning } from '../../adapters/gates/orders-running.ts'
import { readStatusesRunning } from '../../adapters/gates/statuses-running.ts'
import { ledgerViolations } from '../../delivery/ledger-invariants.ts'
import { inspectRedis } from '../../delivery/redis-settings.ts'
import type { Finding } from '../../runtime/finding.ts'
import { withoutSecrets } from '../../runtime/log.ts'
import type { Pool } from '../../runtime/postgres.ts'
import { columns } from '../command-line/columns.ts'
import type { Command } from '../command-line/command.ts'
import type { Connections } from '../command-line/connections.ts'
import { inspectBridges } from '../doctor/broker-settings.ts'
import { judgeLedger } from '../doctor/ledger-invariants.ts'
import { judgeMesAdapter } from '../doctor/mes-adapter.ts'
import { inspectPostgres, inspectSkew } from '../doctor/postgres-settings.ts'
import { inspectRabbit } from '../doctor/rabbitmq-settings.ts'
import { judgeRunning } from '../doctor/running.ts'
import { judgeStatusesRunning } from '../doctor/statuses-running.ts'
import { guardState } from './mes-guard.ts'

export const doctor: Command = {
  name: 'doctor',
  summary: 'looks for settings under which orders can be lost or doubled',
  operands: [],
  options: {},
  settings: ['LEDGER_URL', 'SHOP_URL', 'MES_URL', 'BROKER_URL', 'AMQP_MANAGEMENT_URL', 'QUEUE_URL'],
  exits: {
    0: 'nothing unsafe',
    1: 'something is unsafe',
    3: 'nothing unsafe was seen, but a server could not be read',
  },
  example: 'strangler doctor',
  async run({ connections }) {
    const findings = [
      ...(await inspectDatabases(connections)),
      ...(await inspectBroker(connections)),
      ...(await inspectDoorbell(connections)),
      await inspectMesAdapter(connections),
    ]
    const has = (level: Finding['level']): boolean => findings.some((each) => each.level === level)
    return {
      exitCode: has('unsafe') ? 1 : has('unread') ? 3 : 0,
      json: { findings },
      text: columns(
        findings.map(({ level, subject, says, fix }) => [
          level === 'unsafe' ? 'UNSAFE' : level,
          subject,
          fix === undefined ? says : `${says}; ${fix}`,
        ]),
      ),
    }
  },
}

async function inspectDatabases(connections: Connections): Promise<Finding[]> {
  const ledger = connections.ledger()
  const findings = await inspectPostgres(
    'ledger',
    ledger,
    connections.urlOf('LEDGER_URL'),
    'strangler',
    true,
  )
  findings.push(...(await inspectLedger(ledger)))
  if (connections.isSet('SHOP_URL')) {
    const shop = connections.shop()
    findings.push(
      ...(await inspectPostgres('Shop DB', shop, connections.urlOf('SHOP_URL'), 'shop', true)),
      ...(await inspectSkew(ledger, shop)),
      ...(await inspectRunning(ledger, shop)),
    )
  } else findings.push(notSet('Shop DB', 'SHOP_URL'))
  if (connections.isSet('MES_URL')) {
    const url = connections.urlOf('MES_URL')
    findings.push(...(await inspectPostgres('MES DB', connections.mes(), url, 'mes', false)))
  } else findings.push(notSet('MES DB', 'MES_URL'))
  return findings
}

async function inspectLedger(ledger: Pool): Promise<Finding[]> {
  try {
    return judgeLedger(await ledgerViolations(ledger))
  } catch (error) {
    const says = withoutSecrets(error instanceof Error ? error.message : String(error))
    return [{ level: 'unread', subject: 'owners of orders', says, fix: 'look at the lines above' }]
  }
}

async function inspectRunning(ledger: Pool, shop: Pool): Promise<Finding[]> {
  try {
    return [
      ...judgeRunning(await readRunning(ledger, shop)),
      ...judgeStatusesRunning(await readStatusesRunning(ledger, shop)),
    ]
  } catch (error) {
    const says = withoutSecrets(error instanceof Error ? error.message : String(error))
    return [{ level: 'unread', subject: 'what runs', says, fix: 'look at the lines above' }]
  }
}

async function inspectBroker(connections: Connections): Promise<Finding[]> {
  if (!connections.isSet('BROKER_URL')) return [notSet('broker', 'BROKER_URL')]
  const broker = await connections.broker()
  const findings = await inspectBridges(broker, connections.ledger())
  if (broker.kind === 'postgres') return findings
  if (!connections.isSet('AMQP_MANAGEMENT_URL')) {
    return [...findings, notSet('RabbitMQ', 'AMQP_MANAGEMENT_URL')]
  }
  const rabbit = await inspectRabbit(
    connections.urlOf('AMQP_MANAGEMENT_URL'),
    connections.brokerUrl(),
  )
  return [...findings, ...rabbit]
}

async function inspectDoorbell(connections: Connections): Promise<Finding[]> {
  if (!connections.isSet('QUEUE_URL')) return [notSet('doorbell', 'QUEUE_URL')]
  const url = connections.urlOf('QUEUE_URL')
  if (/^rediss?:/i.test(url)) return inspectRedis(url)
  return [
    {
      level: 'ok',
      subject: 'doorbell',
      says: 'a queue in PostgreSQL: low concurrency, and no setting to get wrong',
    },
  ]
}

function notSet(subject: string, name: string): Finding {
  return { level: 'unread', subject, says: `not looked at: ${name} is not set`, fix: `set ${name}` }
}

async function inspectMesAdapter(connections: Connections): Promise<Finding> {
  if (!connections.isSet('MES_URL')) return judgeMesAdapter(undefined)
  // That the MES DB does not answer is a finding of its own already.
  return judgeMesAdapter(await guardState(connections.mes()).catch(() => undefined))
}
