import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import test from 'ava'

import { startProvisionedPostgres } from '../../estate/provisioned-postgres.ts'
import { createLog } from '../../runtime/log.ts'
import { createPool, type Pool } from '../../runtime/postgres.ts'
import { runCommand } from '../command-line/run-command.ts'
import { catalog } from './catalog.ts'

let intake: Pool
let ledger: Pool
let folder: string
let stopServer = () => Promise.resolve()

test.before(async () => {
  const postgres = await startProvisionedPostgres()
  stopServer = () => postgres.stop()
  folder = await mkdtemp(join(tmpdir(), 'strangler-partner-'))
  const environment = {
    INTAKE_URL: postgres.urlFor('intake', 'operator_login'),
    LEDGER_URL: postgres.urlFor('ledger', 'operator_login'),
    MES_URL: postgres.urlFor('mes', 'operator_login'),
  }
  await mkdir(join(folder, '.strangler'))
  await writeFile(join(folder, '.strangler', 'estate.json'), JSON.stringify({ environment }))
  const log = createLog('test')
  intake = createPool(postgres.urlFor('intake'), { name: 'test', log })
  ledger = createPool(postgres.urlFor('ledger'), { name: 'test', log })
})
test.after.always(async () => {
  await intake?.end()
  await ledger?.end()
  await stopServer()
  await rm(folder, { recursive: true, force: true })
})

interface Said {
  readonly code: number
  readonly out: string
  readonly err: string
}

/** In this process; a start of its own for every call would take most of the time. */
async function partner(...args: string[]): Promise<Said> {
  let out = ''
  let err = ''
  const streams = {
    out: (text: string) => void (out += text),
    err: (text: string) => void (err += text),
  }
  const code = await runCommand(catalog, ['partner', ...args], streams, folder)
  return { code, out, err }
}

const why = ['--why', 'a test', '--who', 'ann'] as const

async function keysFile(content: string): Promise<string> {
  const file = join(folder, 'keys.json')
  await writeFile(file, content)
  return file
}

test.serial('keys of the MES are imported once, as hashes, and never said', async (t) => {
  const file = await keysFile('{"secret-a": "Acme", "secret-b": "Acme", "secret-c": "Bolt"}')
  const first = await partner('import-keys', file, ...why, '--json')
  t.is(first.code, 0, first.err)
  t.deepEqual(JSON.parse(first.out), { imported: 3, known: 0, partnersAdded: ['Acme', 'Bolt'] })
  const again = await partner('import-keys', file, ...why, '--json')
  t.deepEqual(JSON.parse(again.out), { imported: 0, known: 3, partnersAdded: [] })
  const keys = await partner('keys', 'Acme', '--json')
  t.is(JSON.parse(keys.out).keys.length, 2)
  const { rows } = await intake.query<{ ok: boolean; version: number }>(
    `SELECT bool_and(imported AND secret_sha256 IN (sha256('secret-a'), sha256('secret-b'))) AS ok,
       (SELECT max(route_version)::int FROM partner_route WHERE partner = 'Acme') AS version FROM api_key WHERE partner = 'Acme'`,
  )
  t.deepEqual(rows, [{ ok: true, version: 1 }])

  const other = await partner('import-keys', await keysFile('{"secret-a": "Bolt"}'), ...why)
  t.is(other.code, 2)
  t.regex(other.err, /a key given for Bolt belongs to Acme/)
  const broken = await partner('import-keys', await keysFile('{"secret-d": Acme}'), ...why)
  t.is(broken.code, 2)
  await intake.query(`UPDATE partner SET route = 'intake' WHERE id = 'Bolt'`)
  const late = await partner('import-keys', await keysFile('{"secret-d": "Bolt"}'), ...why)
  t.is(late.code, 2)
  t.regex(late.err, /strangler partner release Bolt/)
  const said = [first, again, keys, other, broken, late].map(({ out, err }) => out + err)
  const audit = await ledger.query('SELECT * FROM phase_event')
  t.notRegex(said.join('') + JSON.stringify(audit.rows), /secret-/)
})

test.serial(
  'a key is rotated beside the old one, shown once, and revoked; two live ones are the most',
  async (t) => {
    t.is((await partner('add', 'Cube', '--mode', 'strict', ...why)).code, 0)
    t.is((await partner('add', 'Cube', ...why)).code, 2)
    const made: string[] = []
    for (const expected of [1, 2]) {
      const { code, out } = await partner('rotate', 'Cube', ...why, '--json')
      t.is(code, 0)
      const { id, key } = JSON.parse(out)
      t.regex(key, new RegExp(`^sk_live_${id}_[0-9A-Za-z]{43}$`))
      made.push(id)
      const { rows } = await intake.query(
        'SELECT FROM api_key WHERE id = $1 AND secret_sha256 = sha256($2)',
        [id, Buffer.from(String(key))],
      )
      t.is(rows.length, 1)
      t.is(made.length, expected)
    }
    const third = await partner('rotate', 'Cube', ...why)
    t.is(third.code, 2)
    t.regex(third.err, new RegExp(`strangler partner revoke ${made[0]}`))
    const revoked = await partner('revoke', made[0]!, ...why, '--json')
    t.like(JSON.parse(revoked.out), { partner: 'Cube', liveKeys: 1 })
    t.is((await partner('revoke', made[0]!, ...why)).code, 2)
    t.is((await partner('rotate', 'Cube', ...why)).code, 0)

    t.is((await partner('set', 'Cube', '--uploads-at-once', '3', ...why)).code, 0)
    const list = JSON.parse((await partner('list', '--json')).out)
    t.like(
      list.partners.find(({ id }: { id: string }) => id === 'Cube'),
      { mode: 'strict', route: 'mes', uploadsAtOnce: 3, requestsPerMinute: 6000, liveKeys: 2 },
    )
    const { rows } = await ledger.query(
      `SELECT kind, who, says FROM phase_event WHERE phase = 'partner-intake' AND says LIKE 'Cube%' ORDER BY id`,
    )
    t.is(rows.length, 6, 'one line for each change, and none for what was refused')
    t.like(rows[0], { kind: 'partner', who: 'ann', says: 'Cube: added: a test' })
  },
)

test.serial(
  'a partner enters only where its calls are seen: with a key, and a proxy that knows it',
  async (t) => {
    t.is((await partner('add', 'Dot', ...why)).code, 0)
    const keyless = await partner('enter', 'Dot', ...why)
    t.is(keyless.code, 2)
    t.regex(keyless.err, /no key here/)
    const unseen = await partner('enter', 'Acme', ...why)
    t.regex(unseen.err, /no proxy decides per partner/)
    // One that runs, and tells nothing of partners.
    await ledger.query(
      `INSERT INTO replica (id, kind, host, pid, epochs, lease_ms) VALUES (gen_random_uuid(), 'proxy', 'there', 7, '{}', 600000)`,
    )
    const blind = await partner('enter', 'Acme', ...why)
    t.is(blind.code, 2)
    t.regex(blind.err, /proxy 7 on there/)
    t.like(JSON.parse((await partner('list', '--json')).out).partners[0], {
      id: 'Acme',
      route: 'mes',
    })

    // Dead with a write open: it blocks until somebody says so. `version` 0 is as before the entering.
    await ledger.query('DELETE FROM replica')
    await intake.query(
      `INSERT INTO proxy_replica (id, host, pid, seen_version, oldest_open, open_writes, lease_ms, seen_at) VALUES
       (gen_random_uuid(), 'there', 8, 0, 0, 1, 1000, clock_timestamp() - interval '1 minute'),
       (gen_random_uuid(), 'there', 9, 0, 0, 1, 1000, clock_timestamp() - interval '2 hours'),
       (gen_random_uuid(), 'here', 10, 1000, 1000, 0, 600000, clock_timestamp())`,
    )
    const held = await partner('enter', 'Acme', '--within', '500ms', ...why)
    t.is(held.code, 2)
    t.regex(held.err, /proxy 8 on there/)
    const entered = await partner('enter', 'Acme', '--dead', '8@there', ...why, '--json')
    t.is(entered.code, 0, entered.err)
    t.like(JSON.parse(entered.out), { route: 'intake', proxies: 1, orders: 0 })
    t.regex((await partner('enter', 'Acme', ...why)).out, /already; nothing changed/)
  },
)

for (const [args, complaint] of [
  [['sell'], /expected list, add, set/],
  [['add'], /add expected <id>/],
  [['list', 'Acme'], /list takes nothing more/],
  [['add', 'New'], /--why expected/],
  [['add', 'New', '--mode', 'loose', ...why], /--mode expected to be compat or strict/],
  [['add', 'New', '--uploads-at-once', '0', ...why], /--uploads-at-once expected to be a whole/],
  [['set', 'Acme', ...why], /set expected one of --mode/],
  [['set', 'Nobody', '--mode', 'compat', ...why], /there is no partner Nobody/],
  [['keys', 'Nobody'], /there is no partner Nobody/],
  [['keys', 'Acme', '--force'], /--force does not go with keys/],
  [['import-keys', 'missing.json', ...why], /can not be read \(ENOENT\)/],
] as const)
  test.serial(`partner ${args.join(' ')}: refused`, async (t) => {
    const { code, out, err } = await partner(...args)
    t.is(code, 2)
    t.is(out, '')
    t.regex(err, complaint)
  })

test.serial(
  'a webhook is set, turned over, replayed and switched off; its secret is shown once',
  async (t) => {
    await partner('add', 'Hooked', ...why)
    for (const url of [
      'http://example.com/',
      'https://localhost/',
      'https://127.0.0.1/',
      'https://[::1]/',
      'https://a:b@example.com/',
      'x',
    ])
      t.is((await partner('webhook', 'Hooked', '--url', url, ...why)).code, 2, url)
    const first = await partner(
      'webhook',
      'Hooked',
      '--url',
      'https://example.com/hook',
      '--json',
      ...why,
    )
    t.is(first.code, 0)
    const secret = (said: Said): string => {
      const { secret: shown }: { secret: string } = JSON.parse(said.out)
      t.regex(shown, /^whsec_[A-Za-z0-9+/]{43}=$/u)
      return shown.slice('whsec_'.length)
    }
    const older = secret(first)
    const second = await partner(
      'webhook',
      'Hooked',
      '--url',
      'https://example.com/hook2',
      '--json',
      ...why,
    )
    const { rows } = await intake.query(
      `SELECT url, secrets, disabled_at FROM webhook WHERE partner = 'Hooked'`,
    )
    t.deepEqual(rows, [
      { url: 'https://example.com/hook2', secrets: [secret(second), older], disabled_at: null },
    ])
    t.is((await partner('webhook', 'Nobody', '--url', 'https://example.com/', ...why)).code, 2)
    t.is((await partner('webhook', 'Hooked', ...why)).code, 2)
    await intake.query(
      `INSERT INTO partner_order (id, partner, external_id, material, quantity, model_key, model_sha256, model_bytes, born, path_epoch,
       path_reason, status, created_at, updated_at)
     VALUES ('11111111-1111-4111-8111-111111111111', 'Hooked', 'H', 'PLA', 1, 'k', 's', 1, 'intake', 1, '{}', 'SUBMITTED', now(), now())`,
    )
    await intake.query(
      `INSERT INTO webhook_message (partner, order_id, body, state, attempts) VALUES ('Hooked', '11111111-1111-4111-8111-111111111111', '{}', 'dead', 9)`,
    )
    const replayed = await partner('replay', 'Hooked', '--since', '1h', '--json', ...why)
    t.deepEqual(JSON.parse(replayed.out), { id: 'Hooked', messages: 1 })
    const off = await partner('webhook', 'Hooked', '--off', '--json', ...why)
    t.deepEqual(JSON.parse(off.out), { id: 'Hooked', changed: true })
    const events = await ledger.query<{ says: string }>(
      `SELECT says FROM phase_event WHERE says LIKE 'Hooked: %' ORDER BY id`,
    )
    t.false(events.rows.some(({ says }) => says.includes(older)))
    t.is(events.rows.length, 5, 'added, set twice, replayed, off')
  },
)
