import test from 'ava'

import { doorTo } from './door-under-test.ts'
import { Slots } from './slots.ts'
import { RawClient, fetchFrom } from './stub-client.ts'
import { httpStub } from './stub-upstream.ts'

test('places are given in turn, and one that left the queue is passed over', (t) => {
  const slots = new Slots(1, 2)
  const began: string[] = []
  const a = (): void => void began.push('a')
  const b = (): void => void began.push('b')
  const c = (): void => void began.push('c')
  const d = (): void => void began.push('d')
  t.deepEqual(
    [a, b, c, d].map((each) => slots.enter(each)),
    [true, true, true, false],
  )
  t.deepEqual(began, ['a'])
  slots.leave(b)
  slots.leave(a)
  t.deepEqual(began, ['a', 'c'])
  t.deepEqual([slots.taken, slots.waiting], [1, 0])
  slots.leave(c)
  t.is(slots.taken, 0)
})

test('a request that waits is served when the one before it ends, also when that one gives up', async (t) => {
  const held: (() => void)[] = []
  const upstream = await httpStub(t, (_request, response) => {
    held.push(() => response.end('ok'))
  })
  const one = { limit: 1, waiting: 2 }
  const door = await doorTo(t, upstream.origin, {
    places: { page: one, write: one, upload: one, stream: one },
  })
  const waiting = (): number => door.listener.numbers().places['page']?.waiting ?? 0
  const first = new RawClient(door.port).write('GET /1 HTTP/1.1\r\nHost: a\r\n\r\n')
  await until(() => held.length === 1)
  const impatient = new RawClient(door.port).write('GET /2 HTTP/1.1\r\nHost: a\r\n\r\n')
  await until(() => waiting() === 1)
  const last = fetchFrom(door.port, '/3')
  await until(() => waiting() === 2)
  impatient.socket.destroy()
  await until(() => waiting() === 1)
  first.socket.destroy()
  await until(() => held.length === 2)
  held[1]?.()
  t.is((await last).status, 200)
  const outcomes = (await door.over(3)).map((each) => each.end.outcome)
  t.deepEqual(outcomes, ['wait_aborted', 'head_aborted', 'passed'])
})

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise(setImmediate)
}
