import test from 'ava'

import { createLog } from '../../runtime/log.ts'
import { createPool } from '../../runtime/postgres.ts'
import type { Broker } from '../broker/port.ts'
import { redrivePorts } from './reconcile-sides.ts'

test('what a queue held before this order was asked for proves nothing', async (t) => {
  const asked: { readonly at: number; readonly since: number }[] = []
  const broker: Pick<Broker, 'mayHold' | 'openSender'> = {
    async mayHold(_queue, _orderId, since) {
      asked.push({ at: performance.now(), since })
      return 'no'
    },
    openSender: () => Promise.reject(new Error('nothing is sent')),
  }
  const unused = createPool('postgres://127.0.0.1:9/none', { name: 'test', log: createLog('test') })
  const ports = redrivePorts({
    shop: unused,
    mes: unused,
    broker,
    bridged: true,
    proofWithinMs: 1000,
  })
  const times: number[] = []
  for (const id of ['a', 'b']) {
    times.push(performance.now())
    t.is(await ports.mayBeUnderway(id), 'no')
  }
  t.is(asked.length, 4)
  for (const [index, { since }] of asked.entries()) t.true(since >= times[index < 2 ? 0 : 1]!)
})

test('a CRM that is away is waited for a few times, not for each of its statuses', async (t) => {
  let asked = 0
  const broker: Pick<Broker, 'mayHold' | 'openSender'> = {
    async mayHold() {
      asked += 1
      return 'maybe'
    },
    openSender: () => Promise.reject(new Error('nothing is sent')),
  }
  const unused = createPool('postgres://127.0.0.1:9/none', { name: 'test', log: createLog('test') })
  const proofWithinMs = 200
  const ports = redrivePorts({ shop: unused, mes: unused, broker, bridged: true, proofWithinMs })
  const asks: number[] = []
  for (const id of ['a', 'b', 'c', 'd', 'e']) {
    asked = 0
    t.is(await ports.statuses.mayBeUnderwayToCrm(id), 'maybe')
    asks.push(asked)
  }
  t.deepEqual(asks, [2, 2, 2, 1, 1])
})
