import test from 'ava'

import { createLog } from '../runtime/log.ts'
import { createPool } from '../runtime/postgres.ts'
import { startEstateDatabases } from '../test/estate-databases.ts'
import { makePerson, person, startConsole } from './console-under-test.ts'

const databases = await startEstateDatabases()
const { intake } = databases
// The rights of the console alone, without those of an operator.
const asConsole = createPool(`${databases.urls.intake}?options=-c%20role%3Dstrangler_console`, {
  name: 'strangler-console',
  log: createLog('test'),
})
const page = await startConsole({ ...databases, intake: asConsole })
await makePerson(databases, 'rob', 'reader')
const rob = await person(page, 'rob')
test.after.always(async () => {
  await page.stop()
  await asConsole.end()
  await databases.stop()
})

const evil = `"'><img src=x onerror=alert(1)><script>alert(2)</script>`

test.serial('without partners the page says how to bring them', async (t) => {
  t.regex(await rob.words('/partners'), /None yet\. strangler partner import-keys/)
})

test.serial('where each partner stands, by which keys, and what to type', async (t) => {
  await intake.query(`
    INSERT INTO partner (id, mode, route, entered_at, requests_per_minute, uploads_at_once) VALUES
      ('Acme', 'compat', 'intake', '2026-01-02 03:04:05Z', 6000, 32), ('Bolt & Söhne', 'strict', 'mes', NULL, 60, 1)`)
  await intake.query(`
    INSERT INTO api_key (id, partner, secret_sha256, imported, last_used_at, revoked_at) VALUES
      ('key-old', 'Acme', sha256('old'), true, '2026-02-03 04:05:06Z', '2026-02-04 05:06:07Z'),
      ('key-new', 'Acme', sha256('new'), false, NULL, NULL)`)
  await intake.query(`
    INSERT INTO partner_order (id, partner, external_id, material, quantity, model_key, model_sha256, model_bytes, born, path_epoch,
      path_reason, status, created_at, updated_at)
    SELECT gen_random_uuid(), 'Acme', n::text, 'PLA', 1, 'k', 's', 1, born, 1, jsonb_build_object('rule', rule), 'SUBMITTED', at, at
    FROM (VALUES (1, 'intake', 'token', now()), (2, 'intake', 'share', now()), (3, 'mes', 'share', now()),
      (4, 'mes', 'born in the MES', now()), (5, 'intake', 'share', now() - interval '2 days')) AS o(n, born, rule, at)`)
  const words = await rob.words('/partners')
  t.regex(words, /Acme behind the intake Calls go to the intake, since 2026-01-02 03:04:05/)
  t.regex(words, /strangler partner release Acme --why/)
  t.regex(words, /2 taken here and 1 passed on within 24 hours; the last one at [\d:]+/)
  t.regex(words, /6 000 requests a minute, 32 uploads at once/)
  t.regex(words, /key-old from the MES [\d:]+ 2026-02-03 04:05:06 2026-02-04 05:06:07/)
  t.regex(words, /key-new [\d:]+ never no/)
  t.regex(words, /1 live key\. To change: strangler partner rotate Acme/)
  t.regex(words, /at the MES Calls go to the MES, past the intake/)
  t.true((await rob.text('/partners')).includes('enter &#39;Bolt &amp; Söhne&#39; --why'))
  t.regex(words, /strict: an Idempotency-Key is required.*60 requests a minute, 1 upload at once/)
  t.regex(words, /none is known here.*It has no key/)
})

test.serial('a webhook delivers, fails, is off, and has given messages up', async (t) => {
  await intake.query(
    `INSERT INTO webhook (partner, url, secrets) VALUES ('Acme', 'https://acme.example/hooks/path-secret', ARRAY['hook-secret'])`,
  )
  const message = (state: string, error: string | null, delivered: string | null) =>
    intake.query(
      `INSERT INTO webhook_message (partner, order_id, body, state, last_error, delivered_at)
       SELECT 'Acme', id, '{}', $1, $2, $3 FROM partner_order LIMIT 1`,
      [state, error, delivered],
    )
  t.regex(await rob.words('/partners'), /to acme\.example: nothing waits, nothing was delivered/)
  await message('delivered', null, '2026-03-04 05:06:07Z')
  await message('open', null, null)
  t.regex(
    await rob.words('/partners'),
    /to acme\.example: 1 message under way, last delivered at 2026-03-04 05:06:07/,
  )
  await message('open', 'answered 500', null)
  t.regex(
    await rob.words('/partners'),
    /acme\.example: failing , answered 500; 1 of 2 open messages failed at least once, the next try/,
  )
  await message('dead', 'answered 500', null)
  t.regex(
    await rob.words('/partners'),
    /1 message given up within 7 days ; to send them again: strangler partner replay Acme --since 7d/,
  )
  await intake.query(
    `UPDATE webhook SET disabled_at = '2026-05-06 07:08:09Z', disabled_why = 'answered 410'`,
  )
  t.regex(
    await rob.words('/partners'),
    /acme\.example, off since 2026-05-06 07:08:09 \(“answered 410”\); 2 messages would wait/,
  )
})

test.serial('orders that wait for their turn are counted', async (t) => {
  t.notRegex(await rob.words('/partners'), /waiting to go on/)
  await intake.query(
    `INSERT INTO outbox (order_id, partner) SELECT id, partner FROM partner_order WHERE partner = 'Acme' LIMIT 1`,
  )
  t.regex(await rob.words('/partners'), /; 1 order waiting to go on to the MES, partners in turn/)
  await intake.query('DELETE FROM outbox')
})

test.serial('no secret is shown, nor can be read by the rights of the console', async (t) => {
  const text = await rob.text('/partners')
  t.notRegex(text, /path-secret|hook-secret|sha256/)
  for (const secret of ['secret_sha256 FROM api_key', 'secrets FROM webhook'])
    await t.throwsAsync(asConsole.query(`SELECT ${secret}`), { message: /permission denied/ })
})

test.serial('nothing that others wrote becomes markup', async (t) => {
  await intake.query('INSERT INTO partner (id) VALUES ($1)', [evil])
  await intake.query(
    `INSERT INTO api_key (id, partner, secret_sha256) VALUES ($1, $1, sha256('evil'))`,
    [evil],
  )
  await intake.query('INSERT INTO webhook (partner, url, secrets) VALUES ($1, $1, ARRAY[$1])', [
    evil,
  ])
  const text = await rob.text('/partners')
  t.true(text.includes('onerror'), 'it is shown')
  t.notRegex(text, /<img|<script>/)
})

test.serial('the page of phase 3 tells of the processes of the intake', async (t) => {
  t.regex(
    await rob.words('/phases/partner-intake'),
    /intake answers partners none: it does not run .*webhooks tells partners.* none: it does not run/,
  )
  const running = createPool(databases.urls.intake, {
    name: 'strangler-intake',
    log: createLog('test'),
  })
  try {
    await running.query('SELECT')
    t.regex(await rob.words('/phases/partner-intake'), /intake answers partners 1 intake-relay/)
  } finally {
    await running.end()
  }
  t.notRegex(await rob.words('/phases/orders-direct'), /answers partners|the partners/)
})

test.serial('start page and page of phase 3 lead to it', async (t) => {
  for (const path of ['/', '/phases/partner-intake'])
    t.true((await rob.text(path)).includes('href="/partners"'), path)
})

test.serial('without an intake there is no such page, and no way to it', async (t) => {
  const other = await startConsole({ ...databases, intake: undefined })
  try {
    const without = await person(other, 'rob')
    t.is((await without.ask('/partners')).status, 404)
    t.false((await without.text('/')).includes('/partners'))
  } finally {
    await other.stop()
  }
})

test.serial('an intake DB that does not answer is said to be so, and the pages stay', async (t) => {
  const away = createPool('postgres://nobody:nothing@127.0.0.1:1/none', {
    name: 'strangler-console',
    log: createLog('test'),
  })
  const other = await startConsole({ ...databases, intake: away })
  try {
    const reader = await person(other, 'rob')
    t.regex(await reader.words('/partners'), /The intake DB does not answer: nothing is known/)
    t.regex(
      await reader.words('/phases/partner-intake'),
      /The intake DB does not answer: who works on it is not known/,
    )
  } finally {
    await other.stop()
    await away.end()
  }
})
