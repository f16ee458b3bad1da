import { mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

import { asStranglerError, StranglerError } from '../contracts/errors.ts'
import { type Estate, startEstate } from '../estate/estate.ts'
import { connectPostgresServer } from '../estate/postgres-server.ts'
import { writeSampleModels } from '../estate/sample-models.ts'
import { optional, readConfig, url } from '../runtime/config.ts'
import { parseOnlyOptions } from './command-line/parse-options.ts'
import { runScript } from './command-line/run-script.ts'
import { type DemoOutcome, runDemo } from './demo/demo-run.ts'
import { keepBusy } from './demo/keep-busy.ts'
import { demoPartners } from './demo/partner-run.ts'
import { Progress } from './demo/progress.ts'
import { type InvoiceOrder, readOrders, sampleOrders } from './demo/read-orders.ts'

const usage = `npm run demo -- [options]

Brings up the whole estate (Shop, CRM, MES, their databases and broker, the proxy, the bridge, the ledger and its couriers),
drives orders through all ten statuses while phase 1 and then phase 2 move 0 % -> 10 % -> 50 % -> 100 % -> 0 % -> 100 % and couriers
and appliers are killed, drives a partner that retries everything through phase 3, reconciles, and says whether an order was lost or doubled, or shows a status or price that is not the MES's.

  --orders FILE.csv   orders from a day file of UCI "Online Retail" (an invoice is an order)
  --models DIR        3D models to upload, in turn; without it a few are made
  --limit N           at most N orders (default: 84 made-up ones, or the whole file)
  --keep              stay up afterwards, for exploring; Ctrl-C ends it
  --json              only the result on stdout (its last line is always JSON)
  --help

Settings: QUEUE_URL=redis://...  AMQP_URL=amqp://...  AMQP_MANAGEMENT_URL=http://...  POSTGRES_URL=postgres://superuser...
Without them everything runs embedded. With AMQP_URL the estate's queues in that virtual host are made anew.

Exit codes: 0 nothing lost, nothing doubled, every order closed; 1 a difference, or an answer that the OpenAPI document does not describe; 2 bad usage or it could not start.`

// A demo has tens of orders, is over in a minute, and runs everything on one machine: the gates judge what there is.
const gates = {
  GATE_MINIMUM: '0',
  GATE_WATERMARK: '15s',
  GATE_ADDED_P50_MS: '500',
  GATE_ADDED_P99_MS: '5000',
}

const progress = new Progress()

await runScript('demo', process.argv.slice(2), demo)

async function demo(): Promise<number> {
  const values = parseOnlyOptions(
    {
      orders: { type: 'string' },
      models: { type: 'string' },
      limit: { type: 'string' },
      keep: { type: 'boolean' },
      json: { type: 'boolean' },
      help: { type: 'boolean' },
    },
    process.argv.slice(2),
  )
  if (values.help === true) {
    process.stdout.write(`${usage}\n`)
    return 0
  }
  const limit = values.limit === undefined ? undefined : Number(values.limit)
  if (limit !== undefined && !(Number.isInteger(limit) && limit > 0))
    throw new StranglerError(
      'invalid_argument',
      `--limit expected to be a whole number above 0, got ${values.limit}`,
    )
  const orders =
    values.orders === undefined
      ? sampleOrders(limit ?? 84)
      : await readOrders(resolve(values.orders), limit ?? Number.POSITIVE_INFINITY)
  if (orders.length === 0)
    throw new StranglerError('invalid_argument', `${values.orders} holds no order`)
  const settings = readConfig({
    QUEUE_URL: optional(url('redis', 'rediss')),
    AMQP_URL: optional(url('amqp', 'amqps')),
    AMQP_MANAGEMENT_URL: optional(url('http', 'https')),
    POSTGRES_URL: optional(url('postgres', 'postgresql')),
  })

  const began = performance.now()
  const scratch = join(tmpdir(), `strangler-demo-${process.pid}`)
  const models =
    values.models === undefined
      ? await writeSampleModels(scratch)
      : await filesOf(resolve(values.models))
  let estate: Estate | undefined
  const interrupted = new Promise<'interrupted'>((ended) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const)
      process.once(signal, () => ended('interrupted'))
  })
  try {
    const postgres =
      settings.POSTGRES_URL === undefined
        ? undefined
        : await connectPostgresServer(settings.POSTGRES_URL)
    estate = await startEstate({
      ...(postgres === undefined ? {} : { postgres, databasePrefix: 'strangler_demo_' }),
      ...(settings.QUEUE_URL === undefined ? {} : { queueUrl: settings.QUEUE_URL }),
      ...(settings.AMQP_URL === undefined ? {} : { amqpUrl: settings.AMQP_URL }),
      ...(settings.AMQP_MANAGEMENT_URL === undefined
        ? {}
        : { amqpManagementUrl: settings.AMQP_MANAGEMENT_URL }),
      with: [
        'reconciler',
        'intake',
        'intake-relay',
        'intake-feed',
        ...(values.keep === true ? (['console', 'webhooks'] as const) : []),
      ],
      settings: { mes: { MES_PARTNERS: JSON.stringify(demoPartners) } },
      gates,
      unleash: values.keep === true,
      onStep: (step) => progress.say(`  ${step}`),
    })
    if (estate.unleash !== undefined) await must(estate, 'flags', 'apply')
    await must(estate, 'bridge', 'insert')
    const keyFile = join(scratch, 'partners.json')
    await mkdir(scratch, { recursive: true })
    await writeFile(keyFile, JSON.stringify(demoPartners), { mode: 0o600 })
    await must(estate, 'partner', 'import-keys', keyFile, '--why', 'demo')
    progress.say(`  the bridges stand on both legacy queues`)
    const started = seconds(began)
    progress.say(`\nUp in ${started} s:`)
    for (const [part, implementation] of Object.entries(estate.parts))
      progress.say(`  ${part.padEnd(10)} ${implementation}`)
    progress.say(
      `  customers  ${estate.pages.shop}/\n  sellers    ${estate.pages.crm}/\n  operators  ${estate.pages.mes}/\n`,
    )

    const running = estate
    const outcome = await Promise.race([runDemo(running, orders, models, progress), interrupted])
    if (outcome === 'interrupted') {
      progress.say('interrupted')
      return 2
    }
    const good = report(outcome, orders)
    process.stdout.write(`${JSON.stringify(result(outcome, running, seconds(began)))}\n`)
    if (values.keep === true) await stayUp(running, models, interrupted)
    return good ? 0 : 1
  } finally {
    await estate?.stop()
    await rm(scratch, { recursive: true, force: true })
  }
}

async function must(estate: Estate, ...command: string[]): Promise<string> {
  const { code, stdout, stderr } = await estate.strangler(...command)
  if (code === 0) return stdout
  throw new Error(`strangler ${command.join(' ')} ended with ${code}: ${stdout}${stderr}`)
}

function result(outcome: DemoOutcome, estate: Estate, took: number): object {
  return {
    orders: outcome.findings.orders,
    models: { uploaded: outcome.uploaded, hashMismatch: outcome.hashMismatch },
    // null: too few orders to measure, or a server that does not count statements.
    perOrder: {
      legacy: outcome.perOrder.legacy ?? null,
      direct: outcome.perOrder.direct ?? null,
      statusesDirect: outcome.perOrder.statusesDirect ?? null,
    },
    statuses: outcome.statuses,
    partner: outcome.partner,
    parts: estate.parts,
    seconds: took,
  }
}

function report(outcome: DemoOutcome, orders: readonly InvoiceOrder[]): boolean {
  const { orders: counts } = outcome.findings
  const { statuses, partner } = outcome
  const good =
    counts.lost === 0 &&
    counts.duplicated === 0 &&
    counts.inDoubt === 0 &&
    outcome.hashMismatch === 0 &&
    counts.submitted === orders.length &&
    counts.closed === counts.submitted &&
    outcome.statuses.behind === 0 &&
    outcome.statuses.wrong === 0 &&
    outcome.partner.lost === 0 &&
    outcome.partner.duplicated === 0 &&
    outcome.partner.orders === outcome.partner.accepted &&
    outcome.partner.parityDiffs === 0 &&
    outcome.partner.violations === 0 &&
    outcome.reconcile.code === 0
  progress.say('\nPer order, measured at the servers:')
  for (const [path, cost] of [
    ['everything through CRM', outcome.perOrder.legacy],
    ['orders past CRM', outcome.perOrder.direct],
    ['orders and statuses past CRM', outcome.perOrder.statusesDirect],
  ] as const) {
    if (cost !== undefined)
      progress.say(
        `  ${path.padEnd(29)} ${cost.crmRequests} CRM requests, ${cost.shopStatements} statements on the Shop DB`,
      )
  }
  progress.say(
    `\n${counts.submitted} orders submitted: ${counts.legacy} through CRM, ${counts.direct} direct; ${outcome.courierKills} couriers killed, ${outcome.doubtsSettled} orders in doubt settled by evidence.` +
      `\n${statuses.events} prices and statuses told by the MES: ${statuses.forwarded} through CRM, ${statuses.applied} direct; ${outcome.applierKills} appliers killed; ` +
      `${statuses.behind} orders behind, ${statuses.wrong} wrong on a page or in the Shop DB, ${statuses.lateWrites} late writes of CRM stopped.` +
      `\n${partner.accepted} orders of a partner, by ${partner.sent} requests: ${partner.replayed} answered with the first answer again; ` +
      `${partner.orders} in the MES, ${partner.lost} lost, ${partner.duplicated} doubled, ${partner.parityDiffs} made otherwise than we would.` +
      `\n${partner.exchanges} requests of the partner with their answers, malformed ones too, held against the OpenAPI document that is served: ${partner.violations} violations.` +
      `\n${counts.delivered} in the MES, ${counts.closed} closed, ${counts.lost} lost, ${counts.duplicated} doubled, ${counts.inDoubt} in doubt; ` +
      `${outcome.uploaded} models, ${outcome.hashMismatch} differ.` +
      `\n${good ? 'NO ORDER LOST, NONE DOUBLED.' : 'A DIFFERENCE: see the counts above, and `strangler reconcile`.'}`,
  )
  if (!good) {
    const { lostIds, duplicatedIds, openIds } = outcome.findings
    for (const [what, ids] of [
      ['lost', lostIds],
      ['doubled', duplicatedIds],
      ['not closed', openIds],
    ] as const) {
      if (ids.length > 0)
        progress.say(`  ${what}: ${ids.slice(0, 20).join(' ')}${ids.length > 20 ? ' ...' : ''}`)
    }
    if (outcome.reconcile.code !== 0) progress.say(outcome.reconcile.stdout)
  }
  return good
}

async function stayUp(
  estate: Estate,
  models: readonly string[],
  interrupted: Promise<unknown>,
): Promise<void> {
  const directory = resolve('.strangler')
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const file = join(directory, 'estate.json')
  await writeFile(file, JSON.stringify({ environment: estate.operatorEnvironment }, null, 2), {
    mode: 0o600,
  })
  progress.say('\nBack to the beginning: every phase at 0 %')
  const because = ['--who', 'demo', '--why', 'yours now'] as const
  for (const phase of ['orders-direct', 'statuses-direct', 'partner-intake']) {
    await must(estate, 'rollback', phase, ...because)
    await must(estate, 'resume', phase, ...because)
  }
  const user = await must(estate, 'console-user', 'add', 'demo', '--role', 'operator', '--json')
  const { password }: { password: string } = JSON.parse(user)
  const { unleash, pages } = estate
  const end = keepBusy(estate, models)
  progress.say(
    [
      '',
      'Staying up; an order comes in every second. Ctrl-C ends it.',
      `  console    http://127.0.0.1:${estate.process('console').port}/   user demo, password ${password}`,
      `  flags      ${unleash?.url}/projects/default   user ${unleash?.user}, password ${unleash?.password}`,
      `  customers  ${pages.shop}/`,
      `  sellers    ${pages.crm}/`,
      `  operators  ${pages.mes}/`,
      `  partners   ${pages.mes}/api/partner/v1/orders   key ${Object.keys(demoPartners)[0]}`,
      `  MES DB     ${estate.databases.mes}`,
      '',
      'Try, in another terminal in this folder, or on the two pages above:',
      '  npx strangler status',
      '  npx strangler advance orders-direct --share 10% --why "a first tenth"',
      '  npx strangler rollback orders-direct --why "enough seen"',
    ].join('\n'),
  )
  await interrupted
  await end()
  await rm(file, { force: true })
}

async function filesOf(directory: string): Promise<string[]> {
  const files: string[] = []
  const names = await readdir(directory).catch((error: unknown) => {
    throw asStranglerError(error, 'invalid_argument')
  })
  for (const name of names.toSorted()) {
    const file = join(directory, name)
    const { isFile, size } = await stat(file).then((found) => ({
      isFile: found.isFile(),
      size: found.size,
    }))
    if (isFile && size > 0) files.push(file)
  }
  if (files.length === 0)
    throw new StranglerError('invalid_argument', `--models ${directory} holds no file`)
  return files
}

function seconds(since: number): number {
  return Math.round((performance.now() - since) / 100) / 10
}
