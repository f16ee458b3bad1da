import { createHmac, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server } from 'node:http'

import test from 'ava'

import { createLog } from '../../runtime/log.ts'
import type { Pool } from '../../runtime/postgres.ts'
import { type EstateDatabases, startEstateDatabases } from '../../test/estate-databases.ts'
import { waitUntil } from '../../test/wait-until.ts'
import { signatures, webhookSender } from './webhooks.ts'

let databases: EstateDatabases
let intake: Pool
let server: Server
/** How the partner's end answers; undefined = it does not. */
let answers: (message: Received) => number | undefined = () => 200
const received: Received[] = []

interface Received {
  readonly id: string
  readonly signature: string
  readonly timestamp: string
  readonly body: string
}

const secret = Buffer.from('a secret of the partner').toString('base64')
const older = Buffer.from('the one before').toString('base64')

test.before(async () => {
  databases = await startEstateDatabases()
  ;({ intake } = databases)
  server = createServer((request, response) => {
    void (async () => {
      const body = await bodyOf(request)
      const { headers } = request
      const message = {
        id: String(headers['webhook-id']),
        signature: String(headers['webhook-signature']),
        timestamp: String(headers['webhook-timestamp']),
        body,
      }
      received.push(message)
      const status = answers(message)
      if (status !== undefined) response.writeHead(status).end()
    })()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no TCP port')
  for (const partner of ['Acme', 'Bolt']) {
    await intake.query(`INSERT INTO partner (id, route) VALUES ($1, 'intake')`, [partner])
    await intake.query('INSERT INTO webhook (partner, url, secrets) VALUES ($1, $2, $3)', [
      partner,
      `http://127.0.0.1:${address.port}/hook`,
      [secret, older],
    ])
  }
})
test.after.always(async () => {
  server?.close()
  await databases?.stop()
})
test.beforeEach(() => {
  received.length = 0
})

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk)
  return Buffer.concat(chunks).toString('utf8')
}

async function orderWith(messages: number, partner = 'Acme'): Promise<string> {
  const id = randomUUID()
  await intake.query(
    `INSERT INTO partner_order (id, partner, external_id, material, quantity, model_key, model_sha256, model_bytes, born, path_epoch,
       path_reason, status, created_at, updated_at)
     VALUES ($1::uuid, $2, $1, 'PLA', 1, 'k', 's', 1, 'intake', 1, '{}', 'SUBMITTED', now(), now())`,
    [id, partner],
  )
  for (let n = 0; n < messages; n += 1)
    await intake.query(
      'INSERT INTO webhook_message (partner, order_id, body) VALUES ($1, $2, $3)',
      [partner, id, JSON.stringify(partner === 'Acme' ? { n } : { n, partner })],
    )
  return id
}

function sender(retryAfterMs: readonly number[]) {
  return webhookSender({ intake, answerWithinMs: 5000, retryAfterMs, log: createLog('test') })
}

async function states(orderId: string): Promise<string[]> {
  const { rows } = await intake.query<{ state: string }>(
    'SELECT state FROM webhook_message WHERE order_id = $1 ORDER BY seq',
    [orderId],
  )
  return rows.map(({ state }) => state)
}

async function untilStates(orderId: string, wanted: readonly string[]): Promise<void> {
  await waitUntil(`its messages are ${wanted.join(', ')}`, async () => {
    const now = await states(orderId)
    return now.join() === wanted.join() ? true : Promise.reject(new Error(now.join()))
  })
}

test.serial('a message is signed with each secret, as the specification says', async (t) => {
  answers = () => 200
  const orderId = await orderWith(1)
  const sending = sender([10])
  await sending.start()
  await untilStates(orderId, ['delivered'])
  await sending.stop()
  const [message] = received
  const expected = [secret, older].map((each) => {
    const hmac = createHmac('sha256', Buffer.from(each, 'base64'))
    return `v1,${hmac.update(`${message!.id}.${message!.timestamp}.{"n":0}`).digest('base64')}`
  })
  t.is(message!.signature, expected.join(' '))
  t.regex(message!.id, /^msg_[0-9a-f]{32}$/u)
})

test('the signature is that of the specification’s example', (t) => {
  const example = {
    id: 'msg_p5jXN8AQM9LWM0D4loKWxJek',
    body: '{"test": 2432232314}',
    secrets: ['MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'],
  }
  t.is(signatures(example, 1_614_265_330), 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=')
})

test.serial(
  'one that is not taken comes again under its id, and what is behind it waits',
  async (t) => {
    let failures = 2
    answers = ({ body }) => (body === '{"n":0}' && failures-- > 0 ? 500 : 200)
    const orderId = await orderWith(3)
    const sending = sender([10, 10, 10])
    await sending.start()
    await untilStates(orderId, ['delivered', 'delivered', 'delivered'])
    await sending.stop()
    t.deepEqual(
      received.map(({ body }) => body),
      ['{"n":0}', '{"n":0}', '{"n":0}', '{"n":1}', '{"n":2}'],
    )
    t.is(new Set(received.slice(0, 3).map(({ id }) => id)).size, 1)
  },
)

test.serial('what is behind one that failed is looked at again when that is', async (t) => {
  answers = () => 503
  const orderId = await orderWith(3)
  const sending = sender([3_600_000])
  await sending.start()
  const { rows } = await waitUntil('the first has failed', async () => {
    const found = await intake.query<{ failed: boolean; due: Date }>(
      `SELECT last_error IS NOT NULL AS failed, next_attempt_at AS due FROM webhook_message WHERE order_id = $1 ORDER BY seq`,
      [orderId],
    )
    return found.rows[0]!.failed && found
  })
  await sending.stop()
  const inHalfAnHour = Date.now() + 1_800_000
  t.deepEqual(
    rows.map(({ due }) => due.getTime() > inHalfAnHour),
    [true, true, true],
  )
  t.is(received.length, 1)
  await intake.query('DELETE FROM webhook_message WHERE order_id = $1', [orderId])
})

test.serial(
  'one that is never taken is dead in the end, and holds up its order no longer',
  async (t) => {
    answers = ({ body }) => (body === '{"n":0}' ? 503 : 200)
    const orderId = await orderWith(2)
    const sending = sender([10])
    await sending.start()
    await untilStates(orderId, ['dead', 'delivered'])
    await sending.stop()
    t.is(received.filter(({ body }) => body === '{"n":0}').length, 2)
  },
)

const hanging = (): number => received.filter(({ body }) => !body.includes('Bolt')).length

test.serial(
  'a partner that does not answer holds up its own messages, and nobody else’s',
  async (t) => {
    answers = ({ body }) => (body.includes('Bolt') ? 200 : undefined)
    const unanswered = await Promise.all(Array.from({ length: 30 }, () => orderWith(1)))
    const answered = await orderWith(3, 'Bolt')
    const sending = webhookSender({
      intake,
      answerWithinMs: 60_000,
      retryAfterMs: [60_000],
      log: createLog('test'),
    })
    await sending.start()
    await untilStates(answered, ['delivered', 'delivered', 'delivered'])
    await waitUntil('its first round has come', async () => hanging() >= 20)
    const stopping = sending.stop()
    server.closeAllConnections()
    await stopping
    t.is(hanging(), 20, 'what did not fit was left alone')
    await intake.query('DELETE FROM webhook_message WHERE order_id = ANY($1::uuid[])', [unanswered])
  },
)

test.serial('a partner that says it is gone gets nothing any more', async (t) => {
  answers = () => 410
  const orderId = await orderWith(1)
  const sending = sender([10, 10])
  await sending.start()
  await waitUntil('it is switched off', async () => {
    const { rows } = await intake.query('SELECT FROM webhook WHERE disabled_at IS NOT NULL')
    return rows.length === 1
  })
  await sending.stop()
  t.is(received.length, 1)
  t.deepEqual(await states(orderId), ['open'])
  await intake.query('UPDATE webhook SET disabled_at = NULL, disabled_why = NULL')
})
