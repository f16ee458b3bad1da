import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import test, { type ExecutionContext } from 'ava'

import { findRabbitmqServer } from '../estate/private-rabbitmq.ts'
import { findRedisServer } from '../estate/private-redis.ts'
import { integer, readConfig, withDefault } from '../runtime/config.ts'
import { findExecutable } from '../runtime/find-executable.ts'

const finders = {
  'redis-server': findRedisServer,
  'rabbitmq-server': findRabbitmqServer,
  // No server, but as optional: a real browser.
  chromium: () => findExecutable('chromium'),
  // No server, but as optional: a disk of a few megabytes that a test can fill.
  'right to mount': mayMount,
} as const
type OptionalServer = keyof typeof finders

/** Where every server has to be there (CI), a missing one is a failure, not a skip. */
const required =
  readConfig({ REQUIRE_SERVERS: withDefault(integer({ min: 0, max: 1 }), 0) }).REQUIRE_SERVERS === 1

/** True or undefined, as the other finders: tried once, on a folder of its own. */
function mayMount(): true | undefined {
  const place = mkdtempSync(join(tmpdir(), 'strangler-mount-'))
  try {
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', place])
    if (mounted.status !== 0) return undefined
    spawnSync('umount', [place])
    return true
  } finally {
    rmdirSync(place)
  }
}

export function hasServer(server: OptionalServer): boolean {
  return finders[server]() !== undefined
}

/**
 * Registers serial tests that need a server (or a right) which no npm package brings. Without it such a test passes with a visible
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
      t.fail(`no ${server} on this machine, and REQUIRE_SERVERS=1 asks for it`)
      return
    }
    t.log(`SKIP: no ${server} on this machine`)
    t.pass()
  })
}
