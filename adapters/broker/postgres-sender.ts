import { StranglerError } from '../../contracts/errors.ts'
import { GroupCommit } from '../../runtime/group-commit.ts'
import { isConnectionError } from '../../runtime/postgres.ts'
import type { Message, Sender } from './port.ts'
import { openPostgresSession } from './postgres-session.ts'
import type { PostgresSession } from './postgres-session.ts'
import { checkSenderName, senderInUse } from './sender-name.ts'

/** undefined = a queue has it. */
type Outcome = StranglerError | undefined

export function senderApplicationName(name: string): string {
  return `sender:${name}`
}

/**
 * Publishes into the queue in PostgreSQL. Its session holds `pg_advisory_lock(45, hashtext(name))`, so a name is in use
 * once, and shows the name as its application_name, so anyone can see whether it lives.
 */
export class PostgresSender implements Sender {
  readonly name: string
  readonly #session: PostgresSession
  readonly #confirmTimeoutMs: number
  // One statement in flight: the messages of one sender stay in order.
  readonly #commits = new GroupCommit<Message, Outcome>((batch) => this.#publish(batch), {
    maxRows: 500,
    maxInFlight: 1,
  })

  private constructor(name: string, session: PostgresSession, confirmTimeoutMs: number) {
    this.name = name
    this.#session = session
    this.#confirmTimeoutMs = confirmTimeoutMs
  }

  static async open(url: string, name: string, confirmTimeoutMs: number): Promise<PostgresSender> {
    checkSenderName(name)
    const session = await openPostgresSession(url, senderApplicationName(name))
    try {
      const { rows } = await session.client.query<{ mine: boolean }>(
        'SELECT pg_try_advisory_lock(45, hashtext($1)) AS mine',
        [name],
      )
      if (rows[0]?.mine !== true) throw senderInUse(name)
    } catch (error) {
      await session.end()
      if (error instanceof StranglerError) throw error
      throw new StranglerError('broker_unreachable', String(error), error)
    }
    return new PostgresSender(name, session, confirmTimeoutMs)
  }

  get alive(): boolean {
    return this.#session.alive
  }

  async publish(message: Message): Promise<void> {
    const failure = await this.#commits.push(message)
    if (failure !== undefined) throw failure
  }

  async close(): Promise<void> {
    await this.#commits.drain()
    await this.#session.end()
  }

  async #publish(batch: readonly Message[]): Promise<Outcome[]> {
    if (!this.alive) {
      return batch.map(() => new StranglerError('broker_unreachable', 'the connection is lost'))
    }
    // A server that hangs never answers; cutting the connection makes the outcome unknown, and says so.
    const timer = setTimeout(() => void this.#session.end(), this.#confirmTimeoutMs)
    try {
      const { rows } = await this.#session.client.query<{ counts: number[] }>({
        name: 'publish-batch',
        text: 'SELECT amq.publish_batch($1::text[], $2::text[], $3::bytea[], $4::jsonb[]) AS counts',
        values: [
          batch.map((message) => message.exchange),
          batch.map((message) => message.routingKey),
          batch.map((message) => message.body),
          batch.map((message) => JSON.stringify({ ...message.properties, deliveryMode: 2 })),
        ],
      })
      const counts = rows[0]?.counts ?? []
      return batch.map((message, index) =>
        (counts[index] ?? 0) > 0
          ? undefined
          : new StranglerError('message_unroutable', `${message.exchange} ${message.routingKey}`),
      )
    } catch (error) {
      clearTimeout(timer)
      return await this.#failures(batch, error)
    } finally {
      clearTimeout(timer)
    }
  }

  async #failures(batch: readonly Message[], error: unknown): Promise<Outcome[]> {
    if (!this.alive || isConnectionError(error)) {
      await this.#session.end()
      return batch.map(() => new StranglerError('confirm_unknown', describe(error), error))
    }
    // The statement failed and is rolled back. One message may have spoilt it for all.
    if (batch.length === 1) {
      const code = isAboutTheMessage(error) ? 'message_refused' : 'message_nacked'
      return [new StranglerError(code, describe(error), error)]
    }
    const outcomes: Outcome[] = []
    for (const message of batch) outcomes.push(...(await this.#publish([message])))
    return outcomes
  }
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** Data exceptions and program limits: the same message fails again. Anything else may pass. */
function isAboutTheMessage(error: unknown): boolean {
  if (error instanceof RangeError) return true
  return error instanceof Error && 'code' in error && /^(22|54)/.test(String(error.code))
}
