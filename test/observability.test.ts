import { randomBytes, randomUUID } from 'node:crypto'

import test from 'ava'

import { openBroker } from '../adapters/broker/open-broker.ts'
import { traceIdOfOrder } from '../contracts/trace-context.ts'
import { type Estate, type ProcessName, startEstate } from '../estate/estate.ts'
import { ask } from '../estate/http-request.ts'
import { registerClient, staff } from '../estate/people.ts'
import { withClient } from '../estate/postgres-server.ts'
import { torusStl } from '../estate/sample-models.ts'
import { createLog } from '../runtime/log.ts'
import { type CollectedSpan, type OtlpCollector, startOtlpCollector } from './otlp-collector.ts'
import { submitOrders } from './shop-orders-by-sql.ts'
import { waitUntil } from './wait-until.ts'

/** One order's way, direct there and back by the real pages, as traces, metrics and logs tell it. */
let estate: Estate
let collector: OtlpCollector

/** What a customer of the test is called, and nobody may read in a log, a trace or a metric. */
const person = {
  email: 'zelda.quux@personal.example',
  name: 'Zelda Quuxington',
  phone: '+49 171 5550199',
  file: 'quuxington-ring.stl',
}
const ours = [
  'proxy',
  'bridge',
  'relay',
  'courier',
  'watch',
  'applier',
  'shadow',
] as const satisfies readonly ProcessName[]
const lines = new Map<string, string[]>()

test.before(async () => {
  collector = await startOtlpCollector()
  const observed = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, METRICS_PORT: '0' }
  const periods = { KILL_PERIOD_MS: '1000', SETTLE_MS: '1000' }
  estate = await startEstate({
    settings: {
      ...Object.fromEntries(ours.map((name) => [name, observed])),
      courier: { ...observed, ...periods, QUIET_MS: '1000', PROBE_MS: '300' },
      watch: { ...observed, ...periods },
      applier: { ...observed, QUIET_MS: '300' },
    },
  })
  for (const name of ours) {
    const heard = estate.process(name).lastLines()
    estate.process(name).onLine((line) => heard.push(line))
    lines.set(name, heard)
  }
  await say('bridge', 'insert')
  await say('advance', 'orders-direct', '--share', '100%', '--force', '--why', 'a test')
  await say('advance', 'statuses-direct', '--share', '100%', '--force', '--why', 'a test')
})
test.after.always(async () => {
  await estate?.stop()
  await collector?.stop()
})

async function say(...args: string[]): Promise<void> {
  const result = await estate.strangler(...args)
  if (result.code !== 0) throw new Error(`strangler ${args.join(' ')}: ${result.stderr}`)
}

async function orderByPage(headersOfSubmit: Record<string, string> = {}): Promise<string> {
  const { shop } = estate.pages
  const json = { 'content-type': 'application/json' }
  const clientId = await registerClient(
    estate.pages,
    `${randomBytes(4).toString('hex')}.${person.email}`,
    person.name,
  )
  const created = await ask(`${shop}/api/orders`, {
    method: 'POST',
    headers: json,
    body: JSON.stringify({
      client_id: clientId,
      material: 'PLA',
      quantity: 1,
      comment: `call ${person.phone}`,
    }),
  })
  const { id }: { id: string } = JSON.parse(created.body)
  await ask(`${shop}/api/orders/${id}/model`, {
    method: 'PUT',
    headers: { 'content-disposition': `attachment; filename="${person.file}"` },
    body: torusStl(12),
  })
  const submitted = await ask(`${shop}/api/orders/${id}/submit`, {
    method: 'POST',
    headers: headersOfSubmit,
  })
  if (submitted.status !== 200) throw new Error(`submit: ${submitted.status} ${submitted.body}`)
  return id
}

function statusInShop(id: string): Promise<string | undefined> {
  return withClient(estate.databases.shop, async (client) => {
    const { rows } = await client.query<{ status: string }>(
      'SELECT status FROM orders WHERE id = $1',
      [id],
    )
    return rows[0]?.status
  })
}

async function becomes(id: string, wanted: string): Promise<void> {
  await waitUntil(`${id} to be ${wanted}`, async () => {
    const status = await statusInShop(id)
    return status === wanted ? true : Promise.reject(new Error(status))
  })
}

/** The traces of these submits are in the ledger. */
async function noted(orderIds: readonly string[]): Promise<void> {
  await withClient(estate.databases.ledger, (client) =>
    waitUntil('the traces to be noted', async () => {
      const { rowCount } = await client.query(
        'SELECT FROM submit_trace WHERE order_id = ANY($1::text[])',
        [orderIds],
      )
      return rowCount === orderIds.length
    }),
  )
}

function spansOf(orderId: string): CollectedSpan[] {
  return collector.spans.filter((span) => span.attributes['strangler.order.id'] === orderId)
}

const told = [
  'PRICE_CALCULATED',
  'MANUFACTURING_STARTED',
  'MANUFACTURING_COMPLETED',
  'PACKAGING',
  'SHIPPED',
]

/** All the spans of an order that has gone its whole way. */
function wholeTrace(orderId: string): Promise<CollectedSpan[]> {
  return waitUntil(`all spans of ${orderId}`, () => {
    const spans = spansOf(orderId)
    const applied = spans.filter(({ name }) => name === 'apply status')
    const passed = spans.filter(({ name }) => name === 'bridge crm.events')
    const complete =
      applied.length === told.length &&
      passed.length === told.length &&
      spans.filter(({ name }) => name === 'bridge mes.orders').length === 2 &&
      spans.some(({ name }) => name === 'deliver order') &&
      spans.some(({ name }) => name === 'accept order') &&
      spans.some(({ name }) => name === 'POST /api/orders/:id/submit')
    return complete
      ? Promise.resolve(spans)
      : Promise.reject(new Error(JSON.stringify(spans.map(({ name }) => name).toSorted())))
  })
}

function only(spans: readonly CollectedSpan[], name: string): CollectedSpan {
  const found = spans.filter((span) => span.name === name)
  if (found.length !== 1) throw new Error(`${found.length} spans are called ${name}`)
  return found[0]!
}

function portOf(name: ProcessName): number {
  for (const line of lines.get(name) ?? []) {
    const match = /"event":"metrics","port":(\d+)/.exec(line)
    if (match !== null) return Number(match[1])
    const listening = /"listening":\{.*"admin":(\d+)/.exec(line)
    if (listening !== null) return Number(listening[1])
  }
  throw new Error(`${name} has told no port for metrics`)
}

async function scrape(name: ProcessName): Promise<Map<string, number>> {
  const { status, body } = await ask(`http://127.0.0.1:${portOf(name)}/metrics`)
  if (status !== 200) throw new Error(`${name}: HTTP ${status}`)
  return new Map(
    body
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => {
        const at = line.lastIndexOf(' ')
        return [line.slice(0, at), Number(line.slice(at + 1))]
      }),
  )
}

async function bridged(): Promise<number> {
  const series = await scrape('bridge')
  return series.get('strangler_bridge_received_total{queue="crm.events"}') ?? 0
}

test.serial(
  'an order leaves one trace, from the submit to the MES and back, also when the client begins it',
  async (t) => {
    // A tap beside the MES queue sees what the MES gets.
    const broker = openBroker(estate.operatorEnvironment['BROKER_URL']!, { log: createLog('test') })
    t.teardown(() => broker.close())
    await broker.declareQueue('test.tap')
    await broker.rebind({
      add: [{ exchange: 'strangler.forward.mes.orders', queue: 'test.tap', pattern: '#' }],
      remove: [],
    })
    const tap = await broker.openConsumer('test.tap', 100)
    t.teardown(() => tap.close())
    const client = {
      traceId: randomBytes(16).toString('hex'),
      spanId: randomBytes(8).toString('hex'),
    }
    const people = staff(estate.pages)
    // The relay may be faster than the note of the submit's trace, and then does without: here it is not.
    const relay = estate.process('relay')
    relay.pause()
    let plain: string
    let traced: string
    try {
      plain = await orderByPage()
      traced = await orderByPage({
        traceparent: `00-${client.traceId}-${client.spanId}-01`,
        tracestate: 'vendor=1',
      })
      await noted([plain, traced])
      relay.resume()
      await Promise.all([becomes(plain, 'CLOSED'), becomes(traced, 'CLOSED')])
    } finally {
      await people.stop()
    }
    const headers = new Map<string, unknown>()
    while (!headers.has(plain) || !headers.has(traced)) {
      for (const { properties, routingKey } of await tap.next(100)) {
        const order = String(properties.headers?.['x-strangler-order'])
        if (routingKey === 'order.submitted')
          headers.set(order, properties.headers?.['traceparent'])
      }
    }

    for (const [orderId, traceId] of [
      [plain, traceIdOfOrder(plain)],
      [traced, client.traceId],
    ] as const) {
      const spans = await wholeTrace(orderId)
      const submit = only(spans, 'POST /api/orders/:id/submit')
      const accept = only(spans, 'accept order')
      const deliver = only(spans, 'deliver order')
      t.deepEqual(
        [submit, accept, deliver].map((span) => [span.service, span.kind, span.traceId]),
        [
          ['strangler-proxy', 2, traceId],
          ['strangler-relay', 5, traceId],
          ['strangler-courier', 4, traceId],
        ],
      )
      t.is(submit.parentSpanId, orderId === traced ? client.spanId : undefined)
      t.is(accept.parentSpanId, submit.spanId)
      t.is(deliver.parentSpanId, accept.spanId)
      t.is(headers.get(orderId), `00-${traceId}-${deliver.spanId}-01`, 'what the MES gets')

      const back = spans.filter(({ name }) => name === 'bridge crm.events')
      t.deepEqual(
        back.map((span) => [span.service, span.traceId, span.parentSpanId]),
        told.map(() => ['strangler-bridge', traceId, deliver.spanId]),
      )
      const applied = spans.filter(({ name }) => name === 'apply status')
      t.deepEqual(
        new Set(applied.map(({ parentSpanId }) => parentSpanId)),
        new Set(back.map(({ spanId }) => spanId)),
      )
      t.deepEqual(
        applied.map(({ attributes }) => String(attributes['strangler.status'])).toSorted(),
        told.toSorted(),
      )
      t.true(
        applied.every((span) => span.service === 'strangler-applier' && span.traceId === traceId),
      )
      // What the seller did reaches the MES through CRM and the bridge.
      const onward = spans.filter(({ name }) => name === 'bridge mes.orders')
      t.deepEqual(
        onward.map((span) => [
          span.attributes['messaging.rabbitmq.destination.routing_key'],
          span.parentSpanId,
          span.traceId,
        ]),
        ['order.approved', 'order.closed'].map((key) => [key, deliver.spanId, traceId]),
      )
      t.true(spans.every(({ startMs, endMs }) => startMs <= endMs))
      t.is(new Set(spans.map(({ spanId }) => spanId)).size, spans.length)

      const { stdout } = await estate.strangler('order', orderId, '--json')
      const known: { traceId: string } = JSON.parse(stdout)
      t.is(known.traceId, traceId, 'strangler order names the trace')
    }
    const everything = JSON.stringify(collector.spans)
    for (const secret of [...Object.values(person), 'Zelda', '5550199'])
      t.false(everything.includes(secret), `a span names ${secret}`)
  },
)

test.serial(
  'every line about an order names it and its trace, and no line names a person or a secret',
  async (t) => {
    // Lines that are written only when something is wrong with an order.
    const unreadable = randomUUID()
    await withClient(estate.databases.shop, (shop) =>
      shop.query(
        `INSERT INTO public.orders (id, status, material, quantity, comment) VALUES ($1, 'SUBMITTED', 'PLA', 1, $2)`,
        [unreadable, `call ${person.phone}`],
      ),
    )
    const [parked] = await submitOrders(estate, 1)
    await becomes(parked!, 'PRICE_CALCULATED')
    const broker = openBroker(estate.operatorEnvironment['BROKER_URL']!, { log: createLog('test') })
    const mes = await broker.openSender('mes-under-test')
    await mes.publish({
      exchange: 'mes.events',
      routingKey: 'order.status_changed',
      body: Buffer.from(
        JSON.stringify({
          orderId: parked,
          status: `${person.name} is not a status`,
          occurredAt: new Date().toISOString(),
        }),
      ),
      properties: { contentType: 'application/json' },
    })
    // A courier that dies in the middle of a send leaves a doubt, which the watch settles.
    const courier = estate.process('courier')
    await courier.terminate()
    await estate.launch('courier', { FAILPOINTS: 'courier.sent=kill' })
    const doubtful = lines.get('courier')!
    estate.process('courier').onLine((line) => doubtful.push(line))
    const [doubted] = await submitOrders(estate, 1)
    await waitUntil('the doubt about the order to be settled', async () =>
      lines.get('watch')!.some((line) => line.includes('doubt_settled') && line.includes(doubted!)),
    )
    for (const event of ['order_unreadable', 'status_parked']) {
      await waitUntil(event, async () =>
        [...lines.values()].flat().some((line) => line.includes(event)),
      )
    }
    await mes.close()
    await broker.close()

    const levels = new Set(['info', 'warn', 'error'])
    const about = new Map<string, string[]>()
    for (const [name, heard] of lines) {
      for (const line of heard) {
        // Their own kind: what the process tells its parent on stdout, and the points where a test kills it.
        if (/^\{"(listening|ready)":/.test(line) || line.startsWith('failpoint ')) continue
        const entry: Record<string, unknown> = JSON.parse(line)
        t.true(levels.has(String(entry['level'])), line)
        t.true(
          ['at', 'part', 'event'].every((field) => typeof entry[field] === 'string'),
          line,
        )
        for (const secret of [...Object.values(person), 'Zelda', '5550199', '@'])
          t.false(line.includes(secret), `${name} logs ${secret}: ${line}`)
        t.notRegex(line, /:\/\/[^/\s:@]*:(?!\*\*\*@)[^/\s@]+@/, 'a password in a URL')
        const orderId = entry['orderId']
        for (const id of [unreadable, parked!, doubted!]) {
          if (!line.includes(id)) continue
          t.is(orderId, id, line)
          t.is(entry['traceId'], traceIdOfOrder(id), line)
          about.set(id, [...(about.get(id) ?? []), String(entry['event'])])
        }
      }
    }
    t.deepEqual(about.get(unreadable), ['order_unreadable'])
    t.true(about.get(parked!)?.includes('status_parked'))
    for (const event of ['taken_over_in_doubt', 'doubt_settled'])
      t.true(about.get(doubted!)?.includes(event), event)
  },
)

test.serial(
  'every process can be scraped, and its series say what happened, with labels from closed lists',
  async (t) => {
    await estate.process('courier').terminate()
    await estate.launch('courier', {})
    const heard = lines.get('courier')!
    heard.length = 0
    heard.push(...estate.process('courier').lastLines())
    estate.process('courier').onLine((line) => heard.push(line))
    await becomes((await submitOrders(estate, 1))[0]!, 'PRICE_CALCULATED')

    const values = new Map<string, number>()
    await waitUntil('the courier has told of its send', async () => {
      const courier = await scrape('courier')
      return (courier.get('strangler_courier_sends_total{outcome="delivered"}') ?? 0) >= 1
    })
    for (const name of ours) {
      const series = await scrape(name)
      t.true((series.get('process_resident_memory_bytes') ?? 0) > 1_000_000, name)
      for (const [key, value] of series) values.set(key, value)
      const health = await ask(`http://127.0.0.1:${portOf(name)}/health`)
      t.deepEqual([health.status, JSON.parse(health.body)], [200, { status: 'ok' }], name)
    }
    const atLeast = (series: string, least: number): void => {
      t.true((values.get(series) ?? Number.NaN) >= least, `${series} ${values.get(series)}`)
    }
    const exactly = (series: string, value: number): void => {
      t.is(values.get(series), value, series)
    }
    atLeast('strangler_relay_orders_total{outcome="direct"}', 4)
    exactly('strangler_relay_orders_total{outcome="unreadable"}', 1)
    atLeast('strangler_doorbell_rings_total{queue="orders",outcome="rung"}', 4)
    exactly('strangler_courier_children', 1)
    exactly('strangler_courier_breakers_open', 0)
    atLeast('strangler_bridge_messages_total{queue="crm.events",decision="diverted"}', 10)
    exactly('strangler_bridge_messages_total{queue="crm.events",decision="forwarded"}', 0)
    atLeast('strangler_applier_statuses_total{outcome="applied"}', 10)
    exactly('strangler_applier_statuses_total{outcome="parked"}', 1)
    atLeast('strangler_watch_orders_total{act="taken_over"}', 1)
    exactly('strangler_shadow_comparisons_total{phase="orders-direct",result="different"}', 0)
    atLeast(
      'strangler_proxy_requests_total{door="shop",method="write",status="2xx",outcome="passed"}',
      8,
    )
    atLeast('strangler_proxy_request_seconds_count{door="shop",class="write"}', 6)
    // Of the ledger.
    exactly('strangler_orders{path="direct",state="dead"}', 1)
    atLeast('strangler_orders_recent{path="direct",state="delivered"}', 4)
    exactly('strangler_status_inbox{state="parked"}', 1)
    exactly('strangler_phase_share_ratio{phase="orders-direct",kind="in force"}', 1)
    atLeast('strangler_phase_epoch{phase="statuses-direct"}', 1)
    exactly('strangler_bridge_inserted{queue="mes.orders"}', 1)
    exactly('strangler_queue_messages{queue="bridge of crm.events"}', 0)
    atLeast('strangler_hop_seconds{hop="relay",path="direct",part="service",quantile="0.95"}', 0)
    for (const [series, up] of values)
      if (series.startsWith('strangler_source_up')) t.is(up, 1, series)

    // A verdict of a gate, and one of a gate that nobody declared.
    await withClient(estate.databases.ledger, (client) =>
      client.query(
        `INSERT INTO gate_result (phase, gate, verdict, measured, needed, says, source)
       SELECT 'orders-direct', g, 'PASS', '0', '0', 'test', 'test' FROM unnest(ARRAY['conservation', $1]) g`,
        [person.name],
      ),
    )
    const gates = await waitUntil('the verdict', async () => {
      const series = await scrape('watch')
      return series.has('strangler_gate{phase="orders-direct",gate="conservation",verdict="PASS"}')
        ? series
        : false
    })
    const gate = (verdict: string): number | undefined =>
      gates.get(`strangler_gate{phase="orders-direct",gate="conservation",verdict="${verdict}"}`)
    t.deepEqual(['PASS', 'FAIL', 'INCONCLUSIVE'].map(gate), [1, 0, 0])
    t.false([...gates.keys()].some((series) => series.includes(person.name)))
  },
)

test.serial('whatever comes in, the number of series stays', async (t) => {
  const { shop, mes, crm } = estate.pages
  const flood = async (count: number): Promise<void> => {
    for (let n = 0; n < count; n += 20) {
      await Promise.all(
        Array.from({ length: 20 }, (_, at) => {
          const id = randomUUID()
          const page = [shop, mes, crm][at % 3]!
          const path = [`/orders/${id}`, `/${id}`, `/api/orders/${id}/submit`, `/?q=${id}`][at % 4]!
          return ask(`${page}${path}`, { method: at % 2 === 0 ? 'GET' : 'POST' })
        }),
      )
    }
  }
  const broker = openBroker(estate.operatorEnvironment['BROKER_URL']!, { log: createLog('test') })
  const sender = await broker.openSender('mes-under-test')
  const words = async (count: number): Promise<void> => {
    await Promise.all(
      Array.from({ length: count }, () =>
        sender.publish({
          exchange: 'mes.events',
          routingKey: 'order.status_changed',
          body: Buffer.from(JSON.stringify({ orderId: randomUUID(), status: randomUUID() })),
          properties: { contentType: 'application/json' },
        }),
      ),
    )
  }
  const series = async (): Promise<string[]> =>
    (await Promise.all(ours.map(scrape)))
      .flatMap((each) => [...each.keys()])
      // The kinds of handles that Node has open come and go.
      .filter((each) => !/^nodejs_(active|gc)/.test(each))
      .toSorted()
  await flood(60)
  await words(20)
  const received = await bridged()
  const before = await series()
  await flood(600)
  await words(300)
  await waitUntil('the bridge to have them all', async () => (await bridged()) >= received + 300)
  const after = await series()
  t.log(`${after.length} series in ${ours.length} processes`)
  t.deepEqual(
    after.filter((each) => !before.includes(each)),
    [],
  )
  t.false(after.some((each) => /[0-9a-f]{8}-[0-9a-f]{4}/.test(each)))
  await sender.close()
  await broker.close()
})

for (const mode of ['refuse', 'hang'] as const) {
  test.serial(
    `with a collector that would ${mode}, orders flow on, and what is lost is counted`,
    async (t) => {
      collector.mode = mode
      const asked = collector.requests
      const id = await orderByPage()
      await becomes(id, 'PRICE_CALCULATED')
      await waitUntil('a span that is lost', async () => {
        const relay = await scrape('relay')
        return (relay.get('strangler_spans_total{outcome="dropped"}') ?? 0) >= 1
      })
      t.true(collector.requests > asked)
      // A stop does not wait for it longer than its limit.
      const relay = estate.process('relay')
      t.deepEqual(await relay.terminate(), { code: 0, signal: null })
      await estate.launch('relay')
      const heard = lines.get('relay')!
      heard.length = 0
      heard.push(...estate.process('relay').lastLines())
      estate.process('relay').onLine((line) => heard.push(line))
    },
  )
}
