import { html } from '../runtime/html.ts'
import type { Html } from '../runtime/html.ts'
import { isConnectionError } from '../runtime/postgres.ts'
import type { Pool } from '../runtime/postgres.ts'

/** By the names of their connections to the intake's database, as the gate `running` sees them. */
const processes = [
  ['strangler-intake', 'intake', 'answers partners'],
  ['strangler-partner-relay', 'intake-relay', 'takes accepted orders to CRM and the ledger'],
  ['strangler-partner-feed', 'intake-feed', 'brings statuses and prices back'],
  ['strangler-partner-webhooks', 'webhooks', 'tells partners that have a webhook'],
] as const

export interface IntakeProcess {
  readonly name: string
  readonly job: string
  readonly connections: number
}

export async function readIntakeProcesses(
  intake: Pool,
): Promise<readonly IntakeProcess[] | 'unreadable'> {
  try {
    const { rows } = await intake.query<{ application: string; connections: number }>(
      `SELECT application_name AS application, count(*)::int AS connections FROM pg_stat_activity
       WHERE datname = current_database() AND application_name = ANY($1) GROUP BY 1`,
      [processes.map(([application]) => application)],
    )
    const found = new Map(rows.map((row) => [row.application, row.connections]))
    return processes.map(([application, name, job]) => ({
      name,
      job,
      connections: found.get(application) ?? 0,
    }))
  } catch (error) {
    if (isConnectionError(error)) return 'unreadable'
    throw error
  }
}

export function intakeProcesses(found: readonly IntakeProcess[] | 'unreadable'): Html {
  if (found === 'unreadable')
    return html`<p class="alarm">The intake DB does not answer: who works on it is not known.</p>`
  return html`<h3>Around the intake, by their connections to its database</h3>
    <div class="scroll" tabindex="0" role="region" aria-label="Processes of the intake">
      <table>
        <thead>
          <tr>
            <th scope="col">Process</th>
            <th scope="col">Job</th>
            <th scope="col">Connections</th>
          </tr>
        </thead>
        <tbody>
          ${found.map(
            ({ name, job, connections }) =>
              html`<tr>
                <th scope="row">${name}</th>
                <td>${job}</td>
                <td>${connections === 0 ? 'none: it does not run' : connections}</td>
              </tr>`,
          )}
        </tbody>
      </table>
    </div>`
}
