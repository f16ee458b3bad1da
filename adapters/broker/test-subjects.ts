import { readFileSync } from 'node:fs'

import { startEmbeddedPostgres } from '../../estate/embedded-postgres.ts'
import { withClient } from '../../estate/postgres-server.ts'
import { startPrivateRabbitmq } from '../../estate/private-rabbitmq.ts'
import type { Log } from '../../runtime/log.ts'
import { openBroker } from './open-broker.ts'
import type { Broker } from './port.ts'

export const quiet: Log = { info: () => {}, warn: () => {}, error: () => {} }

/** A broker that this test may kill. */
export interface Subject {
  open(): Broker
  kill9(): Promise<void>
  pause(): void
  resume(): void
  stop(): Promise<void>
}

export async function postgresSubject(): Promise<Subject> {
  const server = await startEmbeddedPostgres()
  const url = await server.createDatabase('broker')
  const schema = readFileSync(new URL('../../legacy/broker/schema.sql', import.meta.url), 'utf8')
  await withClient(url, (client) => client.query(schema))
  return {
    open: () => openBroker(url, { confirmTimeoutMs: 2000, log: quiet }),
    kill9: () => server.restart('kill9'),
    pause: () => server.pause(),
    resume: () => server.resume(),
    stop: () => server.stop(),
  }
}

export async function rabbitmqSubject(): Promise<Subject> {
  const server = await startPrivateRabbitmq()
  return {
    open: () =>
      openBroker(server.url, {
        managementUrl: server.managementUrl,
        confirmTimeoutMs: 2000,
        log: quiet,
      }),
    kill9: () => server.restart('kill9'),
    pause: () => server.pause(),
    resume: () => server.resume(),
    stop: () => server.stop(),
  }
}
