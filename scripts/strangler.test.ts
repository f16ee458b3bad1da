import { randomUUID } from 'node:crypto'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import test from 'ava'

import { startEstateDatabases, submitOrder } from '../test/estate-databases.ts'
import { runStrangler } from '../test/run-strangler.ts'
import type { Said } from '../test/run-strangler.ts'
import { runCommand } from './command-line/run-command.ts'
import { catalog } from './commands/catalog.ts'

const estate = await startEstateDatabases()
const { ledger, shop, mes, urls } = estate
const folder = await mkdtemp(join(tmpdir(), 'strangler-cli-'))
test.after.always(async () => {
  await estate.stop()
  await rm(folder, { recursive: true, force: true })
})
test.beforeEach(async () => {
  await ledger.query(
    'TRUNCATE order_ledger, order_event, bridge_inbox, status_inbox, phase, phase_journal, wish, gate_result, phase_event',
  )
  await shop.query('TRUNCATE public.orders, strangler.outbox, strangler.route')
  await mes.query('TRUNCATE public.orders')
})

const databases = { LEDGER_URL: urls.ledger, SHOP_URL: urls.shop, MES_URL: urls.mes }
/** Nobody listens there. */
const nowhere = 'postgres://nobody:secret@127.0.0.1:9/none'

const strangler = (
  args: readonly string[],
  environment: Record<string, string> = databases,
  cwd = folder,
): Promise<Said> => runStrangler(args, environment, cwd)

/** The same in this process, for what is said before anything is opened. */
async function atOnce(args: readonly string[]): Promise<Said> {
  let out = ''
  let err = ''
  const streams = {
    out: (text: string) => void (out += text),
    err: (text: string) => void (err += text),
  }
  const code = await runCommand(catalog, args, streams, folder)
  return { code, out, err }
}

async function accept(id: string, path = 'direct'): Promise<void> {
  await ledger.query(
    `INSERT INTO order_ledger (order_id, origin, source_ref, path, path_epoch, path_reason, state, routing_key, body, body_sha256,
       submitted_at, accepted_at, rung_at, sending_at, delivered_at)
     VALUES ($1, 'shop', $1, $2, 3, '{"rule": "share", "share": 1000, "bucket": 417}', 'delivered', 'order.submitted', '', '',
       now() - interval '2.5 s', now() - interval '2 s', now() - interval '2 s', now() - interval '1.9 s', now() - interval '1.5 s')`,
    [id, path],
  )
}

test.serial(
  'the help of every command tells usage, options, settings, exit codes and an example',
  async (t) => {
    const overview = await atOnce(['--help'])
    t.is(overview.code, 0)
    for (const name of Object.keys(catalog)) {
      t.true(overview.out.includes(`  ${name} `), name)
      const help = await atOnce([name, '--help'])
      t.is(help.code, 0)
      t.is(help.err, '')
      for (const part of [
        'usage: strangler',
        '--json',
        '--help',
        'settings:',
        'exit codes:',
        `example: strangler ${name}`,
      ]) {
        t.true(help.out.includes(part), `${name}: ${part}`)
      }
      t.is((await atOnce(['help', name])).out, help.out)
    }
  },
)

test.serial('what was typed wrong is answered with what was meant', async (t) => {
  const ask = async (...args: string[]) => {
    const said = await atOnce(args)
    t.is(said.code, 2, args.join(' '))
    t.is(said.out.startsWith('{') ? '' : said.out, '')
    return said.err
  }
  t.regex(await ask('advanse'), /did you mean "advance"/)
  t.regex(await ask('xyzzyxyzzy'), /strangler --help/)
  const unknown = await atOnce(['foo', '--json'])
  t.is(unknown.code, 2)
  t.like(JSON.parse(unknown.out), { error: { code: 'invalid_argument' } })
  t.regex(await ask('advance', 'orders-direct', '--shar', '10%'), /did you mean --share/)
  t.regex(
    await ask('advance', 'orders-direct', '--share', '110%'),
    /--share expected to be from 0% to 100%/,
  )
  t.regex(await ask('advance', 'order-direct'), /there is orders-direct/)
  t.regex(await ask('advance'), /expected <phase>, got nothing/)
  t.regex(await ask('bottleneck', '--since', 'yesterday'), /--since expected to be a duration/)
  t.regex(await ask('bridge', 'instert'), /did you mean insert/)
  t.regex(await ask('reconcile', '--dry-run'), /--dry-run only goes with --redrive/)
  t.regex(await ask('migrate', '--only', 'crm'), /--only expected to be/)
  t.regex(
    await ask('advance', 'orders-direct', '--share', '10%', '--force', '--dry-run'),
    /--force and --dry-run exclude each other/,
  )
  t.is((await atOnce(['help', 'constructor'])).code, 0)
  t.is((await atOnce([])).code, 2)
})

test.serial(
  'a missing setting is named; a server that is away is inconclusive, without its password',
  async (t) => {
    const missing = await strangler(['status'], {})
    t.is(missing.code, 2)
    t.regex(
      missing.err,
      /LEDGER_URL expected to be a URL with postgres:\/\/.*npm run demo -- --keep/,
    )
    const away = await strangler(['status', '--json'], { LEDGER_URL: nowhere })
    t.is(away.code, 3)
    t.is(JSON.parse(away.out).error.code, 'unavailable')
    t.false(away.err.includes('secret'))
    const half = await strangler(['reconcile'], { ...databases, MES_URL: nowhere })
    t.is(half.code, 3)
  },
)

test.serial(
  'without a setting the estate of a demo that is kept up is used, and that is said',
  async (t) => {
    const inner = join(folder, 'somewhere', 'deep')
    await mkdir(join(folder, '.strangler'), { recursive: true })
    await mkdir(inner, { recursive: true })
    const file = join(folder, '.strangler', 'estate.json')
    await writeFile(file, JSON.stringify({ environment: { ...databases, MES_URL: nowhere } }))
    try {
      const said = await strangler(['status', '--json'], { SHOP_URL: urls.shop }, inner)
      t.is(said.code, 0, said.err)
      t.true(said.err.includes(`using LEDGER_URL, MES_URL of ${file}`))
      t.is(JSON.parse(said.out).phases[0].phase, 'orders-direct')
    } finally {
      await rm(file)
    }
  },
)

const why = ['--why', 'a test'] as const

test.serial('advance, status, resume and rollback', async (t) => {
  t.regex((await strangler(['advance', 'orders-direct'])).err, /--why expected to say the reason/)
  const refused = await strangler(['advance', 'orders-direct', '--share', '10%', ...why])
  t.is(refused.code, 2)
  t.regex(
    refused.out,
    /FAIL running: .*the bridge of mes\.orders is absent, no relay runs, no courier runs, no watch runs\n.*INCONCLUSIVE replicas: 0 of 0/s,
  )
  const advanced = await strangler([
    'advance',
    'orders-direct',
    '--share',
    '10%',
    '--force',
    '--who',
    'ann',
    '--json',
    ...why,
  ])
  t.is(advanced.code, 0, advanced.err)
  t.like(JSON.parse(advanced.out), {
    phase: 'orders-direct',
    changed: true,
    epoch: 1,
    share: 1000,
    complete: true,
  })
  const status = await strangler(['status'])
  t.is(status.code, 0)
  t.regex(
    status.out,
    /orders-direct: 10 % in force, epoch 1; advance by ann at .*: "a test \(forced\)"\n  wanted: 10 % by ann\n/,
  )
  t.is((await strangler(['advance', 'orders-direct', '--force', ...why])).code, 0)
  t.regex((await strangler(['status'])).out, /50 % in force, epoch 2; advance by .+@.+ at/)
  const lower = await strangler(['advance', 'orders-direct', '--share', '10%', ...why])
  t.is(lower.code, 2)
  t.regex(lower.err, /strangler rollback orders-direct/)
  await shop.query('UPDATE strangler.route SET share = 7000')
  t.is((await strangler(['status'])).code, 1)
  const back = await strangler(['rollback', 'orders-direct', '--why', 'enough'])
  t.is(back.code, 0, back.err)
  t.regex(back.out, /0 finished on the direct path, 0 handed over .*, 0 lost, 0 doubled/)
  const again = await strangler(['rollback', 'orders-direct', ...why])
  t.is(again.code, 0)
  t.regex(again.out, /stands at 0 % already/)
  t.regex((await strangler(['status'])).out, /pinned by "rollback" of .*: "enough"/)
  const stopped = await strangler(['advance', 'orders-direct', '--force', ...why])
  t.is(stopped.code, 2)
  t.regex(stopped.err, /strangler resume orders-direct/)
  t.is((await strangler(['resume', 'orders-direct', ...why])).code, 0)
  t.is((await strangler(['advance', 'orders-direct', '--force', ...why])).code, 0)
})

test.serial('an old transaction of the Shop: in force, and exit 3', async (t) => {
  const client = await shop.connect()
  const advancing = ['advance', 'orders-direct', '--share', '10%', '--force', ...why]
  try {
    await client.query('BEGIN')
    await client.query('SELECT pg_current_xact_id()')
    const said = await strangler([...advancing, '--json', '--wait', '100ms'])
    t.is(said.code, 3, said.err)
    t.like(JSON.parse(said.out), { changed: true, complete: false, epoch: 1 })
  } finally {
    await client.query('ROLLBACK')
    client.release()
  }
  t.is((await strangler(advancing)).code, 0)
})

test.serial('hold and kill pin, why names who set it in force', async (t) => {
  const id = randomUUID()
  await strangler([
    'advance',
    'orders-direct',
    '--share',
    '100%',
    '--force',
    '--who',
    'ann',
    ...why,
  ])
  await submitOrder(shop, id)
  await accept(id)
  await ledger.query('UPDATE order_ledger SET path_epoch = 1')
  t.is((await strangler(['hold', 'orders-direct', ...why])).code, 0)
  t.regex((await strangler(['hold', 'orders-direct', ...why])).out, /pinned already by "hold"/)
  const killed = await strangler(['kill', 'orders-direct', '--why', 'prices differ', '--json'])
  t.is(killed.code, 0, killed.err)
  t.like(JSON.parse(killed.out), { changed: true, share: 0, shareBefore: 10_000 })
  const told = await strangler(['why', id])
  t.is(told.code, 0)
  t.regex(
    told.out,
    /the order: direct, by the rule "share": its bucket \d+ is below the share of 10 %/,
  )
  t.regex(told.out, /epoch 1 of orders-direct, in force since .* by ann: "a test \(forced\)"/)
  t.is((await strangler(['why', randomUUID()])).code, 2)
  const watched = await strangler(['watch', '--every', '1ms', '--rounds', '3', '--json'])
  t.is(watched.code, 0)
  t.is(watched.out.match(/"orders-direct"/g)?.length, 3)
})

test.serial('order: path, reason, hops that add up, and what Shop and MES say', async (t) => {
  const id = randomUUID()
  await submitOrder(shop, id)
  await accept(id)
  await ledger.query(
    `INSERT INTO bridge_inbox (queue, msg_key, order_id, routing_key, exchange, status, state, body, properties, redelivered, received_at, settled_at)
     VALUES ('crm.events', '\\x01', $1, 'order.price_calculated', 'mes.events', 'PRICE_CALCULATED', 'forwarded', '', '{}', false,
       now() - interval '0.5 s', now() - interval '0.4 s')`,
    [id],
  )
  await ledger.query(
    `INSERT INTO order_event (order_id, hop, kind, actor, detail) VALUES ($1, 'in doubt', 'note', 'ladder', '{"settled": "delivered"}')`,
    [id],
  )
  const said = await strangler(['order', id, '--json'])
  t.is(said.code, 0, said.err)
  const found: { hops: { ms?: number; leave?: number }[]; endToEndMs: number } = JSON.parse(
    said.out,
  )
  const sum = found.hops.reduce((total, hop) => total + (hop.ms ?? 0), 0)
  t.true(Math.abs(sum - found.endToEndMs) < 1)
  t.true(found.endToEndMs > 2000)
  const last = found.hops.at(-1)
  t.true(last?.leave === undefined && (last?.ms ?? 0) > 0, 'the hop it is in counts up to now')
  t.like(found, {
    path: 'direct',
    state: 'delivered',
    why: { epoch: 3, rule: 'share', share: 1000, bucket: 417 },
  })
  const text = await strangler(['order', id])
  t.regex(text.out, /path direct: epoch 3, rule "share", share 10 %, bucket 417 of 10000/)
  t.regex(text.out, /waits for seller .* now/)
  t.regex(text.out, /Shop DB: SUBMITTED, price none/)
  t.regex(text.out, /MES: does not have it/)
  t.regex(text.out, /in doubt, by ladder/)
  t.is((await strangler(['order', id], { ...databases, SHOP_URL: nowhere })).code, 3)
})

test.serial('order: ids of every form', async (t) => {
  for (const id of ['12345', 'a:b:c', 'Ä ö ✂', 'x'.repeat(500)]) {
    const unknown = await strangler(['order', id])
    t.is(unknown.code, 2)
    t.regex(unknown.err, /is not in the ledger/)
    await accept(id)
    const known = await strangler(['order', id])
    t.is(known.code, 0, known.err)
  }
  t.is((await strangler(['order', 'x'.repeat(501)])).code, 2)
  t.is((await strangler(['order', ''])).code, 2)
  const unrelayed = randomUUID()
  await submitOrder(shop, unrelayed)
  t.regex((await strangler(['order', unrelayed])).err, /the Shop DB knows it/)
})

test.serial('bottleneck and reconcile, by their exit codes', async (t) => {
  t.is((await strangler(['bottleneck'])).code, 3)
  t.is((await strangler(['reconcile'])).code, 0)
  const id = randomUUID()
  await accept(id)
  const named = await strangler(['bottleneck', '--since', '90s', '--json'])
  t.is(named.code, 0)
  t.is(JSON.parse(named.out).worst.hop, 'MES')
  const found = await strangler(['reconcile', '--watermark', '1s', '--json'])
  t.is(found.code, 1)
  t.like(JSON.parse(found.out).differences[0], { kind: 'lost', orderId: id })
  const dry = await strangler(['reconcile', '--watermark', '1s', '--redrive', '--dry-run'])
  t.is(dry.code, 1, dry.err)
  t.true(dry.out.includes(id))
})

test.serial('migrate is safe to repeat; doctor finds what is unsafe', async (t) => {
  const migrated = await strangler(['migrate', '--json'])
  t.is(migrated.code, 0, migrated.err)
  t.true(
    JSON.parse(migrated.out).databases.every(
      (each: { applied: string[] }) => each.applied.length === 0,
    ),
  )
  const well = await strangler(['doctor'])
  t.is(well.code, 3)
  t.regex(well.out, /warn +ledger role +postgres is a superuser/)
  t.regex(well.out, /MES adapter/)
  t.regex(well.out, /warn +courier +none runs/)
  await shop.query('ALTER TABLE public.orders DISABLE TRIGGER strangler_capture')
  t.regex((await strangler(['doctor'])).out, /UNSAFE +trigger strangler_capture +disabled/)
  await shop.query('ALTER TABLE public.orders ENABLE TRIGGER strangler_capture')
  await ledger.query(`ALTER ROLE postgres SET synchronous_commit = off`)
  const ill = await strangler(['doctor'])
  await ledger.query(`ALTER ROLE postgres RESET synchronous_commit`)
  t.is(ill.code, 1)
  t.regex(ill.out, /UNSAFE +ledger synchronous_commit +off/)
})

test.serial('--json is one document on stdout, also for an error', async (t) => {
  for (const args of [
    ['status'],
    ['statuses'],
    ['statuses', 'drop'],
    ['order', 'nobody'],
    ['doctor'],
    ['reconcile'],
    ['bottleneck'],
    ['advance', 'nothing'],
  ]) {
    const said = await strangler([...args, '--json'])
    t.notThrows(() => JSON.parse(said.out), `${args.join(' ')}: ${said.out}`)
  }
})
