import { bridgeQueue, legacyLinks } from '../../adapters/wire/legacy-topology.ts'
import type { Finding } from '../../runtime/finding.ts'
import { withoutSecrets } from '../../runtime/log.ts'

type Json = Readonly<Record<string, unknown>>

/** What a queue of RabbitMQ can do to a message by itself, from the management API. */
export async function inspectRabbit(managementUrl: string, amqpUrl: string): Promise<Finding[]> {
  try {
    const amqp = new URL(amqpUrl)
    const vhost = decodeURIComponent(amqp.pathname.slice(1))
    const ask = asker(managementUrl, amqp)
    const queues = await ask(`queues/${encodeURIComponent(vhost === '' ? '/' : vhost)}`)
    const overview = await ask('overview')
    const legacy = legacyLinks.map((link) => link.queue)
    const ours = legacy.map(bridgeQueue)
    const found = (Array.isArray(queues) ? queues : []).filter(isJson)
    return [
      ...[...legacy, ...ours].flatMap((name) => {
        const queue = found.find((each) => each['name'] === name)
        if (queue !== undefined) return judgeQueue(name, queue)
        return legacy.includes(name)
          ? [{ level: 'unsafe' as const, subject: `queue ${name}`, says: 'is not there' }]
          : []
      }),
      judgeUnroutable(isJson(overview) ? overview : {}),
    ]
  } catch (error) {
    const says = withoutSecrets(error instanceof Error ? error.message : String(error))
    return [{ level: 'unread', subject: 'RabbitMQ', says, fix: 'look at AMQP_MANAGEMENT_URL' }]
  }
}

export function judgeQueue(name: string, queue: Json): Finding[] {
  const subject = `queue ${name}`
  const args = { ...under(queue, 'effective_policy_definition'), ...under(queue, 'arguments') }
  const type = queue['type'] ?? args['x-queue-type'] ?? 'classic'
  const limit = args['x-delivery-limit'] ?? args['delivery-limit']
  const deadLetters = args['x-dead-letter-exchange'] ?? args['dead-letter-exchange']
  const overflow = args['x-overflow'] ?? args['overflow']
  const findings: Finding[] = [
    queue['durable'] === true
      ? { level: 'ok', subject, says: `${JSON.stringify(type)}, durable` }
      : {
          level: 'unsafe',
          subject,
          says: 'not durable',
          fix: 'a restart of the broker loses it: declare it durable',
        },
  ]
  if (type === 'quorum' && deadLetters === undefined && limit !== -1) {
    findings.push({
      level: 'unsafe',
      subject: `${subject} delivery-limit`,
      says: `${limit === undefined ? 'the default' : JSON.stringify(limit)}, and no dead letter exchange: a consumer that crashes often enough loses its messages`,
      fix: 'set a policy with delivery-limit -1, or a dead-letter-exchange with overflow reject-publish',
    })
  }
  for (const [what, fix] of [
    ['message-ttl', 'messages vanish by age'],
    ['max-length', 'messages vanish by number'],
    ['max-length-bytes', 'messages vanish by size'],
    ['expires', 'the queue vanishes when unused'],
  ] as const) {
    const value = args[`x-${what}`] ?? args[what]
    if (value === undefined || (what.startsWith('max-length') && overflow === 'reject-publish'))
      continue
    findings.push({
      level: 'unsafe',
      subject: `${subject} ${what}`,
      says: JSON.stringify(value),
      fix,
    })
  }
  const consumers = Number(queue['consumers'] ?? 0)
  if (consumers === 0) {
    findings.push({
      level: 'warn',
      subject,
      says: 'nobody consumes it',
      fix: 'start its consumer; messages wait meanwhile',
    })
  } else if (name.startsWith('strangler.') && consumers > 1) {
    findings.push({
      level: 'unsafe',
      subject,
      says: `${consumers} consumers: the order of messages is not kept`,
    })
  }
  if (name.startsWith('strangler.') && consumers > 0 && queue['exclusive_consumer_tag'] === null) {
    findings.push({
      level: 'warn',
      subject,
      says: 'its consumer is not exclusive: a second bridge could read beside it',
    })
  }
  return findings
}

function judgeUnroutable(overview: Json): Finding {
  const stats = under(overview, 'message_stats')
  const dropped = Number(stats['drop_unroutable'] ?? 0)
  const subject = 'unroutable messages'
  return dropped === 0
    ? { level: 'ok', subject, says: 'none dropped' }
    : {
        level: 'warn',
        subject,
        says: `${dropped} were confirmed and dropped since the broker started`,
        fix: 'an exchange without a binding for the key: look at the bindings',
      }
}

function asker(managementUrl: string, amqp: URL): (path: string) => Promise<unknown> {
  const base = new URL(managementUrl)
  const named = base.username === '' ? amqp : base
  const user =
    named.username === ''
      ? 'guest:guest'
      : `${decodeURIComponent(named.username)}:${decodeURIComponent(named.password)}`
  const headers = { authorization: `Basic ${Buffer.from(user).toString('base64')}` }
  return async (path) => {
    const address = `${base.origin}${base.pathname.replace(/\/$/, '')}/api/${path}`
    const response = await fetch(address, { headers, signal: AbortSignal.timeout(5000) })
    if (!response.ok) throw new Error(`the management API answers ${response.status}`)
    return response.json()
  }
}

function isJson(value: unknown): value is Json {
  return typeof value === 'object' && value !== null
}

function under(value: Json, name: string): Json {
  const found = value[name]
  return isJson(found) ? found : {}
}
