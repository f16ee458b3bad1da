import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'

import test from 'ava'

import { isPassword } from '../../console/password.ts'
import { inheritedEnvironment } from '../../runtime/config.ts'
import { startEstateDatabases } from '../../test/estate-databases.ts'

const databases = await startEstateDatabases()
const { ledger } = databases
test.after.always(() => databases.stop())

async function say(
  args: readonly string[],
  typed = '',
): Promise<{ code: number | null; out: string; err: string }> {
  const script = join(import.meta.dirname, '../strangler.ts')
  const env = { ...inheritedEnvironment(), LEDGER_URL: databases.urls.ledger }
  const child = spawn(process.execPath, [script, 'console-user', ...args], { env })
  child.stdin.end(typed)
  const [out, err] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit'),
  ])
  return { code: child.exitCode, out, err }
}

async function hashOf(name: string): Promise<string | undefined> {
  const { rows } = await ledger.query<{ password: string }>(
    'SELECT password FROM console_user WHERE name = $1',
    [name],
  )
  return rows[0]?.password
}

test.serial(
  'a password is made and printed once, or read from stdin and not printed',
  async (t) => {
    const made = await say(['add', 'Ann', '--role', 'operator', '--who', 'boss', '--json'])
    t.is(made.code, 0, made.err)
    const { name, password } = JSON.parse(made.out)
    t.is(name, 'ann')
    t.true(await isPassword(password, await hashOf('ann')))
    const typed = await say(
      ['add', 'bob', '--role', 'reader', '--password-stdin'],
      'a long typed one\n',
    )
    t.is(typed.out, 'bob may log in\n')
    t.true(await isPassword('a long typed one', await hashOf('bob')))
    t.false(await isPassword('a long typed one', await hashOf('ann')))
    const again = await say(['password', 'ann'])
    t.regex(again.out, /password, shown this once: \S{24}/)
    t.false(await isPassword(password, await hashOf('ann')))
  },
)

test.serial('list, role, disable, enable', async (t) => {
  t.regex((await say(['list'])).out, /ann +operator .*\nbob +reader/)
  t.is((await say(['role', 'bob', '--role', 'operator'])).code, 0)
  t.is((await say(['disable', 'ann'])).code, 0)
  t.regex((await say(['list'])).out, /ann +operator +disabled .*\nbob +operator/)
  t.is((await say(['enable', 'ann'])).code, 0)
  const { rows } = await ledger.query<{ says: string; who: string }>(
    'SELECT says, who FROM phase_event ORDER BY id',
  )
  t.deepEqual(rows[0], { says: 'made ann, operator of the console', who: 'boss' })
  t.deepEqual(
    rows.slice(-3).map(({ says }) => says),
    ['gave the role operator to bob', 'disabled ann', 'enabled ann'],
  )
})

for (const [args, typed, complaint] of [
  [['add', 'ann', '--role', 'reader'], '', /ann is there already/],
  [['add', 'eve'], '', /--role expected to be reader or operator, got nothing/],
  [['add', 'eve', '--role', 'admin'], '', /--role expected to be reader or operator, got admin/],
  [['add', 'eve', '--role', 'reader', '--password-stdin'], 'short\n', /fewer than 12 characters/],
  [['add', 'e v e', '--role', 'reader'], '', /a name has 1 to 64 of a-z/],
  [['add'], '', /add expected a name, got nothing/],
  [['disable', 'nobody'], '', /nobody of the console/],
  [['disable', 'ann', '--role', 'reader'], '', /--role only goes with add and role/],
  [['list', 'ann'], '', /list takes no name/],
  [['make', 'ann'], '', /expected add, list, password, role, disable, enable, got make/],
] as const) {
  test.serial(`refused: ${args.join(' ')}`, async (t) => {
    const answer = await say(args, typed)
    t.is(answer.code, 2)
    t.regex(answer.err, complaint)
    t.is(await hashOf('eve'), undefined)
  })
}
