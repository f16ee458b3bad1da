import { once } from 'node:events'
import { connect } from 'node:net'
import { createInterface } from 'node:readline'

import { serialWith } from '../test/optional-server.ts'
import { startMortalParent } from './mortal-parent.ts'
import { startPrivateRedis } from './private-redis.ts'
import { isRunning } from './process-table.ts'
import { goneFromTable } from './process-tree.ts'

const redisTest = serialWith('redis-server')

/** One command in Redis' inline form; the first line of the answer. */
async function ask(url: string, command: string): Promise<string> {
  const { port } = new URL(url)
  const socket = connect(Number(port), '127.0.0.1')
  socket.write(`${command}\r\n`)
  const [answer] = await once(createInterface({ input: socket }), 'line')
  socket.destroy()
  return String(answer)
}

redisTest('a kill -9 keeps what was acknowledged, a wipe loses all', async (t) => {
  const redis = await startPrivateRedis({ appendonly: 'always' })
  try {
    t.not(redis.port, 6379)
    t.is(await ask(redis.url, 'SET order 1'), '+OK')
    await redis.restart('kill9')
    t.is(await ask(redis.url, 'EXISTS order'), ':1')
    await redis.restart('term')
    t.is(await ask(redis.url, 'EXISTS order'), ':1')
    await redis.restart('kill9', { wipe: true })
    t.is(await ask(redis.url, 'EXISTS order'), ':0')

    redis.pause()
    const answer = ask(redis.url, 'PING')
    redis.resume()
    t.is(await answer, '+PONG')
  } finally {
    await Promise.all([redis.stop(), redis.stop()])
  }
  t.false(isRunning(redis.pid))
})

redisTest('a parent killed by SIGKILL leaves none, not even a paused one', async (t) => {
  const code = `
    import { startPrivateRedis } from ${JSON.stringify(import.meta.resolve('./private-redis.ts'))}
    const redis = await startPrivateRedis()
    redis.pause()
    console.log(redis.pid)`
  const parent = await startMortalParent(t, code)
  const pid = Number(parent.line)
  t.true(isRunning(pid))
  await parent.killNow()
  await goneFromTable([pid])
  t.pass()
})
