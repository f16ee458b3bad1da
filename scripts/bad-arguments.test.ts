import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'

import test from 'ava'

const folder = mkdtempSync(join(tmpdir(), 'strangler-arguments-'))
const columns = join(folder, 'columns.csv')
const ragged = join(folder, 'ragged.csv')
test.before(async () => {
  await writeFile(columns, 'InvoiceNo,Amount\n1,2\n')
  await writeFile(ragged, 'InvoiceNo,Quantity,CustomerID\n1,2\n')
})
test.after.always(() => rm(folder, { recursive: true, force: true }))

async function run(
  script: 'demo' | 'chaos' | 'bench' | 'matrix',
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<{ code: number | null; out: string; err: string }> {
  const file = join(import.meta.dirname, `${script}.ts`)
  const child = spawn(process.execPath, [file, ...args], { env })
  const [out, err] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit'),
  ])
  return { code: child.exitCode, out, err }
}

for (const [script, args, complaint] of [
  ['demo', ['--bogus'], /Unknown option '--bogus'/],
  ['demo', ['--limits', '3'], /did you mean --limit\?/],
  ['demo', ['--limit', 'few'], /--limit expected to be a whole number above 0, got few/],
  ['demo', ['day.csv'], /expected no operand, got day\.csv/],
  ['demo', ['--orders', '/nope.csv'], /ENOENT.*\/nope\.csv/],
  ['demo', ['--orders', columns], /expected a column Quantity, got InvoiceNo, Amount/],
  ['demo', ['--orders', ragged], /ragged\.csv: .*line 2/],
  ['demo', ['--models', '/missing'], /ENOENT.*\/missing/],
  ['chaos', ['--bogus'], /Unknown option '--bogus'/],
  ['chaos', ['--orders', '0'], /--orders expected to be a whole number from 1, got 0/],
  ['chaos', ['--seed', ''], /--seed expected/],
  ['bench', [], /expected one bench of orders, statuses, decide, intake, first-page, got nothing/],
  ['bench', ['order'], /expected one bench of .*, got order/],
  ['bench', ['orders', '--shorts'], /Unknown option '--shorts'; did you mean --short\?/],
  ['matrix', ['mes-dwon'], /expected a case of .*, got mes-dwon/],
  ['matrix', ['--bogus'], /Unknown option '--bogus'/],
] as const) {
  test.serial(`${script} ${args.join(' ').replace(folder, '')}: one line, exit 2`, async (t) => {
    const plain = await run(script, args)
    t.is(plain.code, 2)
    t.is(plain.out, '')
    t.regex(plain.err, complaint)
    t.regex(plain.err, new RegExp(`^${script}: .*\\n$`), 'one line')
    const { code, out } = await run(script, [...args, '--json'])
    t.is(code, 2)
    const document = JSON.parse(out)
    t.is(document.error.code, 'invalid_argument')
    t.regex(document.error.message, complaint)
  })
}

test.serial('a broker that is away is told without a stack and without its password', async (t) => {
  const away = { AMQP_URL: 'amqp://user:geheim@127.0.0.1:9/estate' }
  const { code, out, err } = await run('demo', ['--json'], away)
  t.is(code, 2)
  t.is(JSON.parse(out).error.code, 'broker_unreachable')
  t.regex(err, /the broker does not answer: .*ECONNREFUSED/)
  t.notRegex(out + err, /geheim/)
  t.notRegex(err, /\n\s+at /)
})
