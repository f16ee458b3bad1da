import { randomUUID } from 'node:crypto'

import test from 'ava'

import { startEstate } from '../../estate/estate.ts'
import type { Estate } from '../../estate/estate.ts'
import { withClient } from '../../estate/postgres-server.ts'
import { waitUntil } from '../../test/wait-until.ts'

let estate: Estate
test.before(async () => {
  estate = await startEstate({
    without: ['shop', 'crm', 'mes', 'proxy', 'bridge', 'relay', 'courier', 'watch'],
  })
})
test.after.always(() => estate?.stop())

/** An order that the Shop has submitted, and a status of it that the rules keep back. */
async function plant(id: number, state: string, reason: string, status: string): Promise<string> {
  const orderId = randomUUID()
  await withClient(estate.databases.shop, (client) =>
    client.query(
      `INSERT INTO public.orders (id, status, material, quantity) VALUES ($1, 'SUBMITTED', 'PLA', 1)`,
      [orderId],
    ),
  )
  await withClient(estate.databases.ledger, async (client) => {
    await client.query(
      `INSERT INTO order_ledger (order_id, origin, source_ref, path, path_epoch, path_reason, state, routing_key, body, body_sha256,
         submitted_at, delivered_at, status_path, status_epoch)
       VALUES ($1, 'shop', $1, 'legacy', 1, '{}', 'delivered', 'order.submitted', '', '', now(), now(), 'direct', 1)`,
      [orderId],
    )
    await client.query(
      `INSERT INTO status_inbox (id, order_id, status, received_at, state, reason, next_try_at)
       VALUES ($1, $2, $3, now() - interval '90 s', $4, $5, now() + interval '1 hour')`,
      [id, orderId, status, state, reason],
    )
  })
  return orderId
}

async function statusOf(orderId: string): Promise<string | undefined> {
  return withClient(estate.databases.shop, async (client) => {
    const { rows } = await client.query<{ status: string }>(
      'SELECT status FROM public.orders WHERE id = $1',
      [orderId],
    )
    return rows[0]?.status
  })
}

test.serial('an operator sees what waits and why, accepts one and drops one', async (t) => {
  const set = await plant(101, 'parked', 'wrong_setter', 'MANUFACTURING_APPROVED')
  const early = await plant(102, 'waiting', 'not_approved', 'MANUFACTURING_STARTED')
  const list = await estate.strangler('statuses')
  t.is(list.code, 1, list.stderr)
  t.regex(list.stdout, /2 direct, 0 through CRM/)
  t.regex(list.stdout, /status inbox: 1 waiting, 1 parked/)
  t.regex(list.stdout, new RegExp(`101 +${set} +MANUFACTURING_APPROVED.*only the Shop or CRM`))
  t.regex(list.stdout, new RegExp(`102 +${early} .*CRM has not approved.*1 min 3\\d s`))
  const status = await estate.strangler('status')
  t.is(status.code, 0, status.stderr)
  t.regex(status.stdout, /status inbox: 1 waiting \(the oldest for 1 min 3\d s\), 1 parked \(/)

  const because = ['--who', 'Olga', '--why', 'asked the operator']
  const accepted = await estate.strangler('statuses', 'accept', '101', ...because)
  t.is(accepted.code, 0, accepted.stderr)
  await waitUntil(
    'the accepted one is in the Shop',
    async () => (await statusOf(set)) === 'MANUFACTURING_APPROVED',
  )
  // The Shop has it a moment before the ledger says so.
  await waitUntil('it is settled, with its times in order', () =>
    withClient(estate.databases.ledger, async (client) => {
      const tried = await client.query(
        'SELECT FROM status_inbox WHERE id = 101 AND received_at <= tried_at AND tried_at <= settled_at',
      )
      return tried.rowCount === 1
    }),
  )
  t.is((await estate.strangler('statuses', 'drop', '102', ...because)).code, 0)
  t.is(await statusOf(early), 'SUBMITTED')
  const after = await estate.strangler('statuses', 'list', '--json')
  t.is(after.code, 0)
  t.like(JSON.parse(after.stdout), { orders: { direct: 2, legacy: 0 }, events: [] })

  const again = await estate.strangler('statuses', 'accept', '101', ...because)
  t.is(again.code, 2)
  t.regex(again.stderr, /101 is applied, .*strangler order/)
})

test.serial('what is asked in a wrong way is refused with the next step', async (t) => {
  for (const [args, says] of [
    [['accept'], /expected the id of a status, .* got nothing/],
    [['accept', 'x'], /expected the id of a status, .* got x/],
    [['accept', '999', '--why', 'so'], /has no 999; "strangler statuses" lists/],
    [['drop', '101'], /--why expected/],
    [['acept', '101'], /did you mean accept/],
    [['list', '101'], /list takes no id/],
  ] as const) {
    const said = await estate.strangler('statuses', ...args)
    t.is(said.code, 2, args.join(' '))
    t.regex(said.stderr, says)
  }
})
