import test from 'ava'

import { confirmOverdue } from './confirm-overdue.ts'

const sentAt = 1000
const timeoutMs = 500

test('a confirm has its time from the sending on', (t) => {
  const awaited = { sentAt, blocked: false, unblockedAt: undefined }
  t.false(confirmOverdue(awaited, 1500, timeoutMs))
  t.true(confirmOverdue(awaited, 1501, timeoutMs))
})

test('under an alarm it has as long as the alarm lasts', (t) => {
  t.false(confirmOverdue({ sentAt, blocked: true, unblockedAt: undefined }, 90_000, timeoutMs))
  t.false(confirmOverdue({ sentAt, blocked: true, unblockedAt: 900 }, 90_000, timeoutMs))
})

test('and its full time again when the alarm is over', (t) => {
  const awaited = { sentAt, blocked: false, unblockedAt: 60_000 }
  t.false(confirmOverdue(awaited, 60_500, timeoutMs))
  t.true(confirmOverdue(awaited, 60_501, timeoutMs))
})

test('an alarm that was over before the sending changes nothing', (t) => {
  const awaited = { sentAt, blocked: false, unblockedAt: 900 }
  t.false(confirmOverdue(awaited, 1500, timeoutMs))
  t.true(confirmOverdue(awaited, 1501, timeoutMs))
})
