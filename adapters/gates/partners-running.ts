import type { Pool } from '../../runtime/postgres.ts'
import type { Missing, Running } from './orders-running.ts'
import type { StatusesRunning } from './statuses-running.ts'

/** What shows that the parts of the partners' way are there. */
interface InIntake {
  /** Instances of the intake, by their connections. */
  readonly intakes: number
  readonly intakeRelays: number
  readonly feeds: number
  /** Partners whose calls go to the intake. */
  readonly partnersBehind: number
}

export async function partnersRunningInIntake(intake: Pool): Promise<InIntake> {
  const { rows } = await intake.query<InIntake>(
    `SELECT count(*) FILTER (WHERE application_name = 'strangler-intake')::int AS intakes,
       count(*) FILTER (WHERE application_name = 'strangler-partner-relay')::int AS "intakeRelays",
       count(*) FILTER (WHERE application_name = 'strangler-partner-feed')::int AS feeds,
       (SELECT count(*)::int FROM partner WHERE route = 'intake') AS "partnersBehind"
     FROM pg_stat_activity WHERE datname = current_database()`,
  )
  return rows[0]!
}

export function missingForPartners(
  running: InIntake &
    Pick<Running, 'couriers' | 'watches' | 'ordersBridge'> &
    Pick<StatusesRunning, 'eventsBridge'>,
): Missing {
  const { ordersBridge, eventsBridge, partnersBehind } = running
  return {
    parts: [
      ...(ordersBridge === 'inserted' ? [] : [`the bridge of mes.orders is ${ordersBridge}`]),
      ...(eventsBridge === 'inserted' ? [] : [`the bridge of crm.events is ${eventsBridge}`]),
      ...(partnersBehind > 0 ? [] : ['no partner is behind the intake']),
    ],
    processes: [
      ...(running.intakes > 0 ? [] : ['no partner intake runs']),
      ...(running.intakeRelays > 0 ? [] : ['no relay of the intake runs']),
      ...(running.feeds > 0 ? [] : ['no feed of the intake runs']),
      ...(running.couriers > 0 ? [] : ['no courier runs']),
      ...(running.watches > 0 ? [] : ['no watch runs']),
    ],
  }
}
