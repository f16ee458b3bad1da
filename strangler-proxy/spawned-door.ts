import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

import { inheritedEnvironment } from '../runtime/config.ts'
import type { Ports } from './front-door.ts'
import { fetchFrom } from './stub-client.ts'
import type { Teardown } from './stub-upstream.ts'

interface SpawnedDoor {
  readonly ports: Ports
  readonly stdout: string
  /** Exit code, once it is over. */
  readonly exited: Promise<number | null>
  terminate(): void
  /** The JSON that the admin listener answers. */
  admin(path: '/health' | '/ready'): Promise<{ status: number; body: unknown }>
  /** The value of a series, as `/metrics` names it; NaN where there is none. */
  metric(series: string): Promise<number>
}

/** The process as it is run, in front of one stub under all three names. */
export async function spawnDoor(
  t: Teardown,
  origin: string,
  settings: Record<string, string> = {},
): Promise<SpawnedDoor> {
  const child = fork(fileURLToPath(new URL('main.ts', import.meta.url)), {
    env: {
      ...inheritedEnvironment(),
      SHOP_UPSTREAM: origin,
      CRM_UPSTREAM: origin,
      MES_UPSTREAM: origin,
      SHOP_LISTEN_PORT: '0',
      CRM_LISTEN_PORT: '0',
      MES_LISTEN_PORT: '0',
      ADMIN_PORT: '0',
      // Nobody listens there: the door works without its ledger.
      LEDGER_URL: 'postgres://nobody:nothing@127.0.0.1:1/none',
      ...settings,
    },
    stdio: ['ignore', 'pipe', 'ignore', 'ipc'],
  })
  const exited = new Promise<number | null>((resolve) => {
    child.once('exit', (code) => resolve(code))
  })
  t.teardown(async () => {
    child.kill('SIGKILL')
    await exited
  })
  let stdout = ''
  // Another pipe than the messages: what was written before them may come after them.
  const saidSo = new Promise<void>((resolve) => {
    child.stdout?.on('data', (chunk: Buffer) => {
      stdout += chunk.toString()
      if (stdout.includes('\n')) resolve()
    })
  })
  const told: unknown[] = []
  while (told.length < 2) told.push((await once(child, 'message'))[0])
  await saidSo
  const [ports] = told.filter(isPorts)
  if (ports === undefined) throw new Error(`ready without ports: ${JSON.stringify(told)}`)
  return {
    ports,
    get stdout() {
      return stdout
    },
    exited,
    terminate: () => void child.kill('SIGTERM'),
    admin: async (path) => {
      const { status, body } = await fetchFrom(ports.admin, path)
      const parsed: unknown = JSON.parse(body.toString())
      return { status, body: parsed }
    },
    metric: async (series) => {
      const { body } = await fetchFrom(ports.admin, '/metrics')
      const line = body
        .toString()
        .split('\n')
        .find((each) => each.startsWith(`${series} `))
      return Number(line?.slice(series.length + 1) ?? NaN)
    },
  }
}

function isPorts(message: unknown): message is Ports & { type: 'ports' } {
  return (
    typeof message === 'object' && message !== null && 'type' in message && message.type === 'ports'
  )
}
