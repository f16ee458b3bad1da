import test, { type ExecutionContext } from 'ava'

import { findRabbitmqServer } from '../estate/private-rabbitmq.ts'
import { findRedisServer } from '../estate/private-redis.ts'
import { integer, readConfig, withDefault } from '../runtime/config.ts'

const finders = { 'redis-server': findRedisServer, 'rabbitmq-server': findRabbitmqServer } as const
type OptionalServer = keyof typeof finders

/** Where every server has to be there (CI), a missing one is a failure, not a skip. */
const required =
  readConfig({ REQUIRE_SERVERS: withDefault(integer({ min: 0, max: 1 }), 0) }).REQUIRE_SERVERS === 1

export function hasServer(server: OptionalServer): boolean {
  return finders[server]() !== undefined
}

/**
 * Registers serial tests that need a server which has no npm package to come from. Without it such a test passes with a visible
 * SKIP, or fails when REQUIRE_SERVERS=1. A `before` hook that starts the server asks `hasServer`.
 */
export function serialWith(
  server: OptionalServer,
): (title: string, run: (t: ExecutionContext) => Promise<void>) => void {
  return hasServer(server)
    ? (title, run) => test.serial(title, run)
    : (title) => testWithout(server, title)
}

/** Stands for what can't be tested here. */
export function testWithout(server: OptionalServer, title: string): void {
  test.serial(`SKIP, no ${server}: ${title}`, (t) => {
    if (required) {
      t.fail(`${server} is not installed, and REQUIRE_SERVERS=1 asks for it`)
      return
    }
    t.log(`SKIP: no ${server} on this machine`)
    t.pass()
  })
}
