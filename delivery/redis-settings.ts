import { Redis } from 'ioredis'

import type { Finding } from '../runtime/finding.ts'

/** What a doorbell asks of its Redis. The ledger survives losing all of it; the checks are for how often it has to. */
export async function inspectRedis(url: string): Promise<Finding[]> {
  const redis = new Redis(url, {
    lazyConnect: true,
    connectTimeout: 5000,
    commandTimeout: 5000,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
  })
  let lost: Error | undefined
  redis.on('error', (error: Error) => {
    lost = error
  })
  try {
    await redis.connect()
    const facts = parseInfo(await redis.info())
    // CONFIG is often forbidden on a managed server; INFO knows nearly as much.
    const appendonly = await setting(redis, 'appendonly')
    const appendfsync = await setting(redis, 'appendfsync')
    const policy = (await setting(redis, 'maxmemory-policy')) ?? facts['maxmemory_policy']
    return judgeRedis({
      ...facts,
      ...(policy === undefined ? {} : { maxmemory_policy: policy }),
      ...(appendonly === undefined ? {} : { appendonly }),
      ...(appendfsync === undefined ? {} : { appendfsync }),
    })
  } catch (error) {
    const says = lost?.message ?? (error instanceof Error ? error.message : String(error))
    return [
      {
        level: 'unread',
        subject: 'Redis',
        says,
        fix: 'look at QUEUE_URL; orders go on without it, slower',
      },
    ]
  } finally {
    redis.disconnect()
  }
}

export function judgeRedis(facts: Readonly<Record<string, string>>): Finding[] {
  const policy = facts['maxmemory_policy'] ?? 'unknown'
  const aof = facts['appendonly'] ?? (facts['aof_enabled'] === '1' ? 'yes' : 'no')
  const version = facts['redis_version'] ?? '0'
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const role = facts['role'] ?? 'unknown'
  const persisted = [
    ['rdb_last_bgsave_status', 'the last snapshot'],
    ['aof_last_bgrewrite_status', 'the last rewrite of the AOF'],
    ['aof_last_write_status', 'the last write to the AOF'],
  ] as const
  return [
    check(
      policy === 'noeviction',
      'maxmemory-policy',
      policy,
      'CONFIG SET maxmemory-policy noeviction: any other drops jobs in silence',
    ),
    check(
      aof === 'yes',
      'appendonly',
      aof,
      'CONFIG SET appendonly yes: a kill -9 lost 169 707 of 169 707 jobs without',
    ),
    check(
      major > 6 || (major === 6 && minor >= 2),
      'version',
      version,
      'BullMQ needs 6.2 or newer',
    ),
    check(
      role === 'master',
      'role',
      role,
      'QUEUE_URL must name the master: a replica takes no jobs',
    ),
    ...judgeAppendfsync(facts['appendfsync']),
    ...persisted
      .filter(([name]) => facts[name] !== undefined)
      .map(([name, what]) =>
        check(
          facts[name] === 'ok',
          name,
          `${what}: ${facts[name]}`,
          "look at the server's log and its disk",
        ),
      ),
  ]
}

/** Unknown where CONFIG is forbidden: INFO does not tell. A ring that is lost costs time, not an order: a warning. */
function judgeAppendfsync(says: string | undefined): Finding[] {
  const subject = 'Redis appendfsync'
  if (says === undefined) return []
  if (says !== 'no') return [{ level: 'ok', subject, says }]
  const fix = 'CONFIG SET appendfsync everysec: the kernel may hold half a minute of rings back'
  return [{ level: 'warn', subject, says, fix }]
}

function check(safe: boolean, what: string, says: string, fix: string): Finding {
  const subject = `Redis ${what}`
  return safe ? { level: 'ok', subject, says } : { level: 'unsafe', subject, says, fix }
}

function parseInfo(text: string): Record<string, string> {
  return Object.fromEntries(
    text
      .split(/\r?\n/)
      .filter((line) => line.includes(':') && !line.startsWith('#'))
      .map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1)]),
  )
}

async function setting(redis: Redis, name: string): Promise<string | undefined> {
  try {
    const answer = await redis.config('GET', name)
    return Array.isArray(answer) && typeof answer[1] === 'string' ? answer[1] : undefined
  } catch {
    return undefined
  }
}
