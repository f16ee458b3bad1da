import test from 'ava'
import { type Browser, chromium, type Page } from 'playwright-core'

import { type Estate, startEstate } from '../estate/estate.ts'
import { withClient } from '../estate/postgres-server.ts'
import { gates, recordGates } from '../flags/gates.ts'
import { phases } from '../flags/phases.ts'
import { findExecutable } from '../runtime/find-executable.ts'
import { createLog } from '../runtime/log.ts'
import { createPool, type Pool } from '../runtime/postgres.ts'
import { hasServer, serialWith } from './optional-server.ts'
import { submitOrders } from './shop-orders-by-sql.ts'
import { waitUntil } from './wait-until.ts'

/** The console as people have it: its own process, least rights, a real browser. */
let estate: Estate
let ledger: Pool
let browser: Browser
let base: string
let password: string
let orders: string[]

const withBrowser = serialWith('chromium')
const phone = { width: 360, height: 740 }

test.before(async () => {
  if (!hasServer('chromium')) return
  estate = await startEstate({
    without: ['proxy', 'shadow', 'applier'],
    with: ['intake'],
    settings: { mes: { MES_PRICE_US_PER_TRIANGLE: '0' } },
  })
  ledger = createPool(estate.databases.ledger, { name: 'test', log: createLog('test') })
  await operator('bridge', 'insert')
  const added = await operator('console-user', 'add', 'ann', '--role', 'operator', '--json')
  const made: unknown = JSON.parse(added)
  password =
    typeof made === 'object' && made !== null && 'password' in made ? String(made.password) : ''
  await operator('advance', 'orders-direct', '--share', '100%', '--force', '--why', 'a test')
  orders = await submitOrders(estate, 3)
  await waitUntil('the MES has told the prices', async () => {
    const { rows } = await ledger.query<{ count: number }>(
      `SELECT count(DISTINCT order_id)::int AS count FROM bridge_inbox WHERE routing_key = 'order.price_calculated'`,
    )
    return rows[0]!.count === orders.length
  })
  await withClient(estate.databases.intake, (client) => client.query(partnerRows))
  base = `http://127.0.0.1:${(await estate.launch('console')).port}`
  browser = await chromium.launch({
    executablePath: findExecutable('chromium') ?? '',
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  })
})
test.after.always(async () => {
  await (browser as Browser | undefined)?.close()
  await (ledger as Pool | undefined)?.end()
  await (estate as Estate | undefined)?.stop()
})

/** One behind the intake, whose webhook fails, and one at the MES without a key. */
const partnerRows = `
  INSERT INTO partner (id, mode, route, entered_at) VALUES ('Acme Additive Manufacturing GmbH', 'compat', 'intake', now()), ('Bolt', 'strict', 'mes', NULL);
  INSERT INTO api_key (id, partner, secret_sha256, imported, last_used_at, revoked_at)
  SELECT 'key0000' || n, 'Acme Additive Manufacturing GmbH', sha256(n::text::bytea), n = 1, now(), CASE n WHEN 1 THEN now() END
  FROM generate_series(1, 3) n;
  INSERT INTO partner_order (id, partner, external_id, material, quantity, model_key, model_sha256, model_bytes, born, path_epoch,
    path_reason, status, created_at, updated_at)
  VALUES (gen_random_uuid(), 'Acme Additive Manufacturing GmbH', 'PO-1', 'PLA', 1, 'k', 's', 1, 'intake', 1, '{"rule": "token"}', 'SUBMITTED', now(), now());
  INSERT INTO webhook (partner, url, secrets) VALUES ('Acme Additive Manufacturing GmbH', 'https://hooks.acme-additive-manufacturing.example/', ARRAY['x']);
  INSERT INTO webhook_message (partner, order_id, body, state, last_error)
  SELECT partner, id, '{}', unnest(ARRAY['open', 'dead']), 'answered 500' FROM partner_order`

async function operator(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await estate.strangler(...args)
  if (code !== 0) throw new Error(`strangler ${args.join(' ')} ended with ${code}: ${stderr}`)
  return stdout
}

async function judge(verdict: 'PASS' | 'FAIL'): Promise<void> {
  for (const { id } of phases)
    await recordGates(
      ledger,
      id,
      gates.map(({ id: gate }) => ({
        gate,
        verdict,
        measured: '0 of 3 orders',
        needed: '0',
        says: verdict === 'PASS' ? 'all is well' : 'all is lost',
        orderIds: verdict === 'PASS' ? [] : orders,
        source: 'a test',
        unblock: undefined,
      })),
    )
}

type Look = NonNullable<Parameters<Browser['newContext']>[0]>

/** A page of a person who has just logged in, without the mouse; `complaints` is what the browser had to say. */
async function signedIn(look: Look = {}): Promise<{ page: Page; complaints: string[] }> {
  const context = await browser.newContext({ viewport: { width: 1200, height: 800 }, ...look })
  const page = await context.newPage()
  const complaints: string[] = []
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') complaints.push(message.text())
  })
  page.on('pageerror', (error) => complaints.push(error.message))
  await page.goto(`${base}/`)
  await page.locator('#name').focus()
  await page.keyboard.type('ann')
  await page.keyboard.press('Tab')
  await page.keyboard.type(password)
  await page.keyboard.press('Enter')
  await page.waitForURL(`${base}/`)
  return { page, complaints }
}

const everyPage = (): string[] => [
  '/',
  '/phases/orders-direct',
  '/phases/statuses-direct',
  '/phases/partner-intake',
  '/partners',
  '/hops?since=1h',
  '/parity/orders-direct',
  '/timeline',
  '/audit',
  '/orders',
  `/orders/${orders[0]}`,
]

withBrowser(
  'the overview says "unknown" first, and 0 as soon as there is evidence, without a reload',
  async (t) => {
    const { page, complaints } = await signedIn()
    const headline = page.locator('.headline')
    t.regex(await headline.innerText(), /unknown\s+unexplained orders/)
    await page.evaluate('window.notReloaded = true')
    await judge('PASS')
    await page.locator('.headline.good').waitFor()
    t.regex(await headline.innerText(), /^0\s+unexplained orders/)
    t.regex(
      await page.locator('#changes').textContent().then(String),
      /0 unexplained orders/,
      'it is said aloud',
    )
    await judge('FAIL')
    await page.locator('.headline.bad').waitFor()
    t.regex(await headline.innerText(), /^3\s+unexplained orders/)
    t.true(await page.evaluate('window.notReloaded'))
    t.deepEqual(complaints, [])
    await page.context().close()
  },
)

withBrowser('an order shows its hops as bars on one clock, and what comes next', async (t) => {
  const { page, complaints } = await signedIn()
  await page.goto(`${base}/orders?q=${orders[0]}`)
  t.is(page.url(), `${base}/orders/${orders[0]}`)
  const rows = page.locator('.way tbody tr')
  const names = await rows.locator('th').allInnerTexts()
  t.deepEqual(names.slice(0, 4), ['relay', 'doorbell', 'courier', 'MES calculates'])
  t.is(names.at(-1), 'waits for seller')
  const bars = await rows.locator('.hop').evaluateAll((all) =>
    all.map((bar) => ({
      x: Number(bar.getAttribute('x')),
      width: Number(bar.getAttribute('width')),
    })),
  )
  t.is(bars.length, names.length)
  t.true(bars.every(({ x, width }) => width > 0 && x >= 0 && x + width <= 1000.2))
  t.true(bars.every(({ x }, index) => index === 0 || x >= bars[index - 1]!.x))
  t.regex(await page.locator('.facts').innerText(), /direct, epoch 1, by its bucket, at 100 %/)
  t.deepEqual(complaints, [])
  await page.context().close()
})

withBrowser('with the keyboard alone: to a button, a reason, and it is done', async (t) => {
  await judge('PASS')
  const { page } = await signedIn()
  await page.goto(`${base}/phases/statuses-direct`)
  await page.keyboard.press('Tab')
  t.is(await page.locator(':focus').innerText(), 'Skip to the content')
  await page.keyboard.press('Enter')
  const why = page.locator('#act-hold-why')
  for (let press = 0; press < 60; press += 1) {
    await page.keyboard.press('Tab')
    if (await why.evaluate((input) => input === input.ownerDocument.activeElement)) break
  }
  t.is(await page.locator(':focus').getAttribute('id'), 'act-hold-why')
  t.not(await page.evaluate('getComputedStyle(document.activeElement).outlineStyle'), 'none')
  await page.keyboard.type('lunch')
  await page.keyboard.press('Tab')
  t.is(await page.locator(':focus').innerText(), 'Hold')
  await page.keyboard.press('Enter')
  await page.locator('.done').waitFor()
  t.regex(await page.locator('main').innerText(), /The phase is held[\s\S]*ann, [\d:]+: “lunch”/)
  t.true(await page.locator('[data-act=hold] button').isDisabled())
  t.regex(await page.locator('#act-hold-blocked').innerText(), /Not now: held by ann: "lunch"/)
  await page.context().close()
})

withBrowser(
  'what somebody types outlives a renewal, and a button that changed under it says so',
  async (t) => {
    const { page } = await signedIn()
    await page.goto(`${base}/phases/orders-direct`)
    await page.locator('#act-rollback-why').fill('wrong prices')
    await operator('rollback', 'orders-direct', '--why', 'somebody else was quicker')
    await page.locator('.ladder .here', { hasText: '0 %' }).waitFor()
    t.is(await page.locator('#act-rollback-why').inputValue(), 'wrong prices')
    await page.locator('[data-act=rollback] .outdated').waitFor()
    t.regex(
      await page.locator('[data-act=rollback] .outdated').innerText(),
      /This has changed since you began/,
    )
    await page.context().close()
  },
)

withBrowser('without a script every page is whole, and its buttons work', async (t) => {
  const { page } = await signedIn({ javaScriptEnabled: false })
  await page.goto(`${base}/phases/statuses-direct`)
  await page.locator('#act-resume-why').fill('back from lunch')
  await page.locator('[data-act=resume] button').click()
  t.regex(await page.locator('.done').innerText(), /follows the wish again/)
  await page.context().close()
})

for (const colorScheme of ['light', 'dark'] as const) {
  withBrowser(
    `every page on a phone, ${colorScheme}: nothing sticks out, every word can be read`,
    async (t) => {
      await judge('FAIL')
      const { page, complaints } = await signedIn({ viewport: phone, colorScheme })
      for (const path of everyPage()) {
        await page.goto(`${base}${path}`)
        t.true(
          await page.evaluate('document.documentElement.scrollWidth <= innerWidth'),
          `${path} sticks out`,
        )
        const faint: unknown = await page.evaluate(faintWords)
        t.deepEqual(faint, [], path)
      }
      await page.evaluate(`document.documentElement.style.setProperty('--text', '#777')`)
      t.notDeepEqual(await page.evaluate(faintWords), [], 'it would see faint words')
      t.deepEqual(complaints, [])
      await page.context().close()
    },
  )
}

/** In the page: words with less contrast to what is behind them than WCAG's AA asks for (4.5, large ones 3). */
const faintWords = `(() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true })
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1)
    canvas.fillStyle = color
    canvas.fillRect(0, 0, 1, 1)
    return [...canvas.getImageData(0, 0, 1, 1).data]
  }
  const light = (color) => {
    const [r, g, b] = rgba(color).map((value) => value / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const behind = (element) => {
    for (let each = element; each !== null; each = each.parentElement) {
      const { backgroundColor } = getComputedStyle(each)
      if (rgba(backgroundColor)[3] === 255) return backgroundColor
    }
    return 'white'
  }
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  const faint = []
  let seen = 0
  while (words.nextNode()) {
    const element = words.currentNode.parentElement
    const text = words.currentNode.nodeValue.trim()
    if (text === '' || element.closest('.unseen, .skip, button:disabled') !== null || element.getClientRects().length === 0) continue
    seen += 1
    const { color, fontSize, fontWeight } = getComputedStyle(element)
    const [a, b] = [light(color), light(behind(element))]
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)
    const size = parseFloat(fontSize)
    const needed = size >= 24 || (size >= 18.66 && Number(fontWeight) >= 700) ? 3 : 4.5
    if (contrast < needed) faint.push(text.slice(0, 40) + ' ' + contrast.toFixed(2))
  }
  return seen > 10 ? faint : ['only ' + seen + ' words were seen']
})()`

withBrowser(
  'a ledger that hangs, and a console that goes away: the page says of when it is, and comes back',
  async (t) => {
    await judge('PASS')
    const { page } = await signedIn()
    await estate.process('console').terminate()
    const impatient = await estate.launch('console', { CONSOLE_STATEMENT_MS: '1000' })
    base = `http://127.0.0.1:${impatient.port}`
    const connection = page.locator('#connection')
    // So impatient that a busy machine may be too slow for it at first.
    await waitUntil('the overview', async () => {
      await page.goto(`${base}/`)
      return page.locator('.headline.good').isVisible()
    })
    estate.postgres.pause()
    try {
      await page
        .locator('#connection', { hasText: 'The ledger does not answer; what you see is of' })
        .waitFor()
      t.regex(await page.locator('.headline').innerText(), /^0\s/, 'what was known stays')
      const answer = await page
        .context()
        .request.get(`${base}/`, { headers: { accept: 'text/html' } })
      t.is(answer.status(), 503)
      t.regex(
        await answer.text(),
        /The ledger does not answer[\s\S]*strangler rollback orders-direct/,
      )
    } finally {
      estate.postgres.resume()
    }
    await connection.waitFor({ state: 'hidden' })
    const restarted = estate.process('console').restart()
    await page
      .locator('#connection', {
        hasText: /Connection lost, trying again; what you see is of \d\d:\d\d:\d\d/,
      })
      .waitFor()
    await restarted
    await connection.waitFor({ state: 'hidden' })
    t.pass()
    await page.context().close()
  },
)

withBrowser('who is logged out elsewhere is told, and led to the login', async (t) => {
  const { page } = await signedIn()
  await estate.strangler('console-user', 'disable', 'ann')
  await page.locator('#connection', { hasText: 'You are signed in no more' }).waitFor()
  await page.locator('#connection a').click()
  await page.waitForURL(/\/login\?next=%2F$/)
  t.pass()
  await page.context().close()
})
