import { randomUUID } from 'node:crypto'

import test from 'ava'

import { eventually } from '../legacy-under-test.ts'
import { MesUnderTest, referenceTo, submitted } from './mes-under-test.ts'

let mes: MesUnderTest
test.before(async () => {
  mes = await MesUnderTest.start()
})
test.after.always(() => mes?.stop())

test('a row that a trigger swallows is no failure, and what waits is priced after a restart', async (t) => {
  await mes.legacy.query(
    'mes',
    `CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`,
  )
  await mes.legacy.query(
    'mes',
    `CREATE TRIGGER swallow BEFORE INSERT ON orders FOR EACH ROW WHEN (NEW.comment = 'swallowed') EXECUTE FUNCTION swallow()`,
  )
  const model = referenceTo(Buffer.from(`late ${randomUUID()}`))
  const swallowed = randomUUID()
  const waiting = randomUUID()
  await mes.tell('order.submitted', {
    ...submitted(swallowed, model),
    comment: 'swallowed',
  })
  await mes.tell('order.submitted', submitted(waiting, model))
  await eventually(async () => (await mes.rows(waiting)).length === 1)
  t.deepEqual(await mes.rows(swallowed), [])
  // Both are acknowledged: nothing is left to come again.
  await eventually(async () => {
    const left = await mes.legacy.query('broker', 'SELECT id FROM amq.message')
    return left.length === 0
  })
  mes.process.kill('SIGKILL')
  await mes.process.exited
  await mes.process.restart()
  await mes.putModelAs(model.key, Buffer.from('whatever came'))
  await eventually(async () => (await mes.rows(waiting))[0]?.price)
  t.pass()
})
