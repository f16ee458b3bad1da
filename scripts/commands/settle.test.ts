import test from 'ava'

import { processNames, startEstate } from '../../estate/estate.ts'
import { withClient } from '../../estate/postgres-server.ts'

test('a person settles a doubt, once, with a reason that is recorded; anything else is refused', async (t) => {
  const estate = await startEstate({
    without: processNames,
  })
  t.teardown(() => estate.stop())
  await withClient(estate.databases.ledger, (client) =>
    client.query(
      `INSERT INTO order_ledger (order_id, origin, source_ref, path, path_epoch, path_reason, state, routing_key, body, body_sha256, submitted_at, doubt_at)
       SELECT id, 'shop', id, 'direct', 1, '{}', state, 'order.submitted', '\\x00', '\\x00', now(), now()
       FROM (VALUES ('held', 'in_doubt'), ('gone', 'in_doubt'), ('fine', 'accepted')) AS v(id, state)`,
    ),
  )
  const because = ['--who', 'Olga', '--why', 'looked it up']
  t.is((await estate.strangler('settle', 'held', '--as', 'delivered', ...because)).code, 0)
  t.is((await estate.strangler('settle', 'gone', '--as', 'absent', ...because)).code, 0)
  t.is((await estate.strangler('settle', 'fine', '--as', 'absent', ...because)).code, 2)
  t.is((await estate.strangler('settle', 'held', '--as', 'absent', ...because)).code, 2)
  t.is((await estate.strangler('settle', 'gone', '--as', 'maybe', ...because)).code, 2)
  t.is((await estate.strangler('settle', 'gone', '--as', 'absent')).code, 2)
  const { states, notes } = await withClient(estate.databases.ledger, async (client) => ({
    states: (
      await client.query<{ order_id: string; state: string; gen: number }>(
        'SELECT order_id, state, gen FROM order_ledger ORDER BY order_id',
      )
    ).rows,
    notes: (
      await client.query<{ order_id: string; actor: string }>(
        'SELECT order_id, actor FROM order_event ORDER BY seq',
      )
    ).rows,
  }))
  t.deepEqual(states, [
    { order_id: 'fine', state: 'accepted', gen: 0 },
    { order_id: 'gone', state: 'accepted', gen: 1 },
    { order_id: 'held', state: 'delivered', gen: 0 },
  ])
  t.deepEqual(notes, [
    { order_id: 'held', actor: 'Olga' },
    { order_id: 'gone', actor: 'Olga' },
  ])
})
