import { spawn } from 'node:child_process'
import { once } from 'node:events'

import { findRabbitmqServer, startPrivateRabbitmq } from '../estate/private-rabbitmq.ts'
import { findRedisServer, startPrivateRedis } from '../estate/private-redis.ts'
import { inheritedEnvironment } from '../runtime/config.ts'

/**
 * `node scripts/node24.mjs scripts/with-private-servers.ts <command> ...`: runs a command with QUEUE_URL, AMQP_URL and
 * AMQP_MANAGEMENT_URL of a Redis and a RabbitMQ that live as long as the command does. Exit code: the command's; 2 when a server
 * is not installed.
 */
const [command, ...args] = process.argv.slice(2)
if (
  command === undefined ||
  findRedisServer() === undefined ||
  findRabbitmqServer() === undefined
) {
  process.stderr.write(
    'usage: with-private-servers <command> ...; needs redis-server and rabbitmq-server (Debian packages of these names)\n',
  )
  process.exit(2)
}
const redis = await startPrivateRedis({ appendonly: 'everysec', policy: 'noeviction' })
const rabbitmq = await startPrivateRabbitmq().catch(async (error: unknown) => {
  await redis.stop()
  throw error
})
try {
  const child = spawn(command, args, {
    stdio: 'inherit',
    env: {
      ...inheritedEnvironment(),
      QUEUE_URL: redis.url,
      AMQP_URL: rabbitmq.url,
      AMQP_MANAGEMENT_URL: rabbitmq.managementUrl,
    },
  })
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal))
  const ended: unknown[] = await once(child, 'exit')
  process.exitCode = typeof ended[0] === 'number' ? ended[0] : 1
} finally {
  await rabbitmq.stop()
  await redis.stop()
}
