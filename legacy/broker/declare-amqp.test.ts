import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

import test from 'ava'

const script = fileURLToPath(new URL('declare-amqp.ts', import.meta.url))

function declare(args: string[], env: Record<string, string>): { code: number; err: string } {
  const { status, stderr } = spawnSync(process.execPath, [script, ...args], {
    env,
    encoding: 'utf8',
  })
  return { code: status ?? -1, err: stderr }
}

// As an argument the password would be in `ps` for everyone on the machine.
test('the URL of the broker is taken from the environment, never as an argument', (t) => {
  t.is(declare(['amqp://user:geheim@127.0.0.1:9'], {}).code, 2)
  t.is(declare([], { BROKER_URL: 'no url' }).code, 2)
})

test('a broker that does not answer is said in one line, without the password', (t) => {
  const { code, err } = declare([], { BROKER_URL: 'amqp://user:geheim@127.0.0.1:9/estate' })
  t.is(code, 3)
  t.regex(err, /^the broker does not answer: .*ECONNREFUSED.*\n$/)
  t.notRegex(err, /geheim/)
})
