import test from 'ava'

import { run } from './run-command.ts'

test('what a failed command was called with and said is told without the password of a URL', async (t) => {
  const says = `console.error('no answer from amqp://user:geheim@host/vhost'); process.exit(4)`
  const error = await t.throwsAsync(
    run(process.execPath, ['-e', says, 'postgres://user:geheim@host/db'], {}),
  )
  t.regex(error.message, /ended with 4/)
  t.regex(error.message, /amqp:\/\/user:\*\*\*@host/)
  t.notRegex(error.message, /geheim/)
})
